"""The toy kernels of ``toys/``, and the same with something wrong in them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from emulator import HERE, Emulator, compiled, linked
from numpy.typing import NDArray

READ_ONLY, UNDEFINED, DEFINED = range(3)  # what a kernel finds in a buffer
# Bytes on either side of a buffer that belong to no other: where an index goes that is wrong must not depend on what
# the allocator put there. A multiple of every alignment that a kernel may ask for.
GUARD = 1 << 12


@dataclass(frozen=True)
class Buffer:
    """An array that a kernel is given, with what it may do to it."""

    array: NDArray[np.generic]
    content: int


def reads(array: NDArray[np.generic]) -> Buffer:
    return Buffer(array, READ_ONLY)


def writes(array: NDArray[np.generic]) -> Buffer:
    return Buffer(array, UNDEFINED)


def updates(array: NDArray[np.generic]) -> Buffer:
    return Buffer(array, DEFINED)


def guarded(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """A contiguous copy with ``GUARD`` on either side."""
    room = np.empty(array.nbytes + 2 * GUARD, np.uint8)
    copy = room[GUARD : GUARD + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class Toy:
    """A toy, with some of its text replaced: each of ``changes`` is what stands there and what shall."""

    def __init__(self, name: str, *changes: tuple[str, str]) -> None:
        source = HERE / "toys" / f"{name}.cu"
        text = source.read_text()
        for before, after in changes:
            assert text.count(before) == 1, f"{source.name} has {text.count(before)} times {before!r}"
            text = text.replace(before, after)
        self.emulator = Emulator(linked(name, [compiled(source, text=text)]))
        self.emulator.library.run.restype = ctypes.c_char_p

    def run(self, sizes: Sequence[int], buffers: Sequence[Buffer], seed: int = 0) -> None:
        """Runs the toy's host code.

        Raises:
            RuntimeError: with the emulator's text.
        """
        self.emulator.seed(seed)
        arrays = [guarded(buffer.array) for buffer in buffers]
        for array, buffer in zip(arrays, buffers, strict=True):
            self.emulator.memory(array.ctypes.data, array.nbytes, buffer.content)
        try:
            error = self.emulator.library.run(
                (ctypes.c_int * len(sizes))(*sizes),
                (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays)),
            )
        finally:
            self.emulator.forget_memory()
        if error is not None:
            raise RuntimeError(error.decode())
        for array, buffer in zip(arrays, buffers, strict=True):
            if buffer.content != READ_ONLY:
                buffer.array[...] = array
