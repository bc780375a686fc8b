"""Builds libraries in which CUDA sources run on the CPU, and sets their device, their seed and their memory."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CUDA_SOURCES = ROOT / "csrc/cuda"
CACHE = ROOT / "build/cuda_emulation"

# As nvcc does by default, a * b + c becomes one rounding. A thread's locals are checked too: see locals.cpp.
FLAGS = (
    "-std=c++17",  # as CMakeLists.txt has it for nvcc
    "-O2",
    "-g1",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-march=native",
    "-fno-math-errno",
    "-fsanitize=bounds,float-cast-overflow,integer-divide-by-zero",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
    "-DDEFORMWARP_CUDA_EMULATION",
    f"-I{HERE}",
    f"-I{CUDA_SOURCES}",
)


def compiler() -> list[str] | None:
    """The C++ compiler, or None where there is none."""
    command = shlex.split(os.environ.get("CXX", "g++"))
    return command if shutil.which(command[0]) else None


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


@functools.cache
def _headers() -> bytes:
    """All that sources include from here, and what else changes what is built."""
    files = sorted([*HERE.glob("*.h"), *ROOT.glob("csrc/**/*.h"), *ROOT.glob("csrc/**/*.cuh")])
    command = compiler() or []
    version = subprocess.run([*command, "-march=native", "-E", "-dM", "-xc++", "/dev/null"], capture_output=True).stdout
    return _digest(version, *(file.read_bytes() for file in files)).encode()


def _run(command: Sequence[str | Path]) -> None:
    result = subprocess.run([str(part) for part in command], text=True, capture_output=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{shlex.join(map(str, command))}\n{result.stderr}")


def compiled(source: Path, flags: Sequence[str] = (), text: str | None = None) -> Path:
    """The object file of a source (or of a changed ``text`` of it), built unless it is there already."""
    code = (source.read_text() if text is None else text).encode()
    target = CACHE / f"{source.stem}-{_digest(code, _headers(), *map(str.encode, (*FLAGS, *flags)))}.o"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        own = target.with_suffix(f".{os.getpid()}")  # another process may build the same
        changed = own.with_suffix(f"{own.suffix}.cpp")
        changed.write_bytes(code)
        try:
            _run([*(compiler() or ["g++"]), *FLAGS, *flags, f"-I{source.parent}", "-c", changed, "-o", own])
            own.replace(target)
        finally:
            changed.unlink()
    return target


def linked(name: str, objects: Sequence[Path], flags: Sequence[str] = ()) -> Path:
    """The shared library of objects and the emulator."""
    objects = [*objects, *(compiled(source) for source in sorted(HERE.glob("*.cpp")))]
    target = CACHE / f"{name}-{_digest(*(o.name.encode() for o in objects), *map(str.encode, flags))}.so"
    if not target.exists():
        own = target.with_suffix(f".{os.getpid()}")
        _run([*(compiler() or ["g++"]), "-shared", *objects, *flags, "-ldl", "-o", own])
        own.replace(target)
    return target


class _Device(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int)
        for name in (
            "architecture",
            "multiprocessors",
            "shared_bytes_per_block",
            "shared_bytes_per_multiprocessor",
            "shared_bytes_reserved_per_block",
            "threads_per_multiprocessor",
        )
    ]


@dataclass(frozen=True)
class Device:
    """csrc/cuda/device.h"""

    architecture: int
    multiprocessors: int
    shared_bytes_per_block: int
    shared_bytes_per_multiprocessor: int
    shared_bytes_reserved_per_block: int
    threads_per_multiprocessor: int


KIB = 1024
DEVICES = {
    device.architecture: device
    for device in (
        Device(75, 40, 64 * KIB, 64 * KIB, 0, 1024),  # T4
        Device(80, 108, 163 * KIB, 164 * KIB, KIB, 2048),  # A100
        Device(90, 132, 227 * KIB, 228 * KIB, KIB, 2048),  # H100, H200
        Device(100, 148, 227 * KIB, 228 * KIB, KIB, 2048),  # B200
        Device(120, 170, 99 * KIB, 100 * KIB, KIB, 1536),  # GeForce RTX 5090
    )
}


class Emulator:
    """A loaded library with an emulator of its own."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))

    def seed(self, seed: int) -> None:
        """Threads and blocks run in another order for every seed."""
        self.library.emulation_seed(ctypes.c_uint64(seed))

    @contextmanager
    def device(self, device: Device) -> Iterator[None]:
        """Within the block, kernels run on a device like this; after it, on the one of an H200."""
        self.library.emulation_device(ctypes.byref(_Device(*astuple(device))))
        try:
            yield
        finally:
            self.library.emulation_device(ctypes.byref(_Device(*astuple(DEVICES[90]))))

    def memory(self, address: int, size: int, content: int) -> None:
        """What kernels may touch: content 0 is read-only, 1 undefined, 2 defined and writable."""
        self.library.emulation_memory(ctypes.c_void_p(address), ctypes.c_size_t(size), content)

    def forget_memory(self) -> None:
        self.library.emulation_forget_memory()
