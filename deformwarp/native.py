"""Loads the compiled library and knows what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch  # brings the libraries that the compiled one is linked to

try:
    import deformwarp._C as _C
except ImportError as error:  # pragma: no cover - needs a broken installation
    raise ImportError(
        f"deformwarp: the compiled library does not load ({error}): "
        f"torch is {torch.__version__}, and it needs torch >= 2.11; reinstall with `pip install .`"
    ) from error

#: Compiler, target torch and torch headers of the build; CUDA architectures, or "" where there are no CUDA kernels.
COMPILER: str = _C.compiler
TORCH_TARGET: str = _C.torch_target
TORCH_HEADERS: str = _C.torch_headers
CUDA_ARCHITECTURES: str = _C.cuda_architectures


def available_isas() -> list[str]:
    """Instruction sets of the CPU kernels that run on this processor, widest first.

    >>> available_isas()[-1]
    'plain'
    """
    return list(_C.available_isas())


def current_isa() -> str:
    """The instruction set whose CPU kernels are in use.

    >>> current_isa() in available_isas()
    True
    """
    return str(_C.current_isa())


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Within the block, all threads of the process use the CPU kernels of one instruction set.

    Args:
        name: one of :func:`available_isas`.

    Raises:
        ValueError: the instruction set is not in the library or does not run on this processor.

    >>> with use_isa("plain"):
    ...     current_isa()
    'plain'
    """
    if name not in available_isas():
        raise ValueError(f"isa: is {name!r}, but should be one of {', '.join(available_isas())}")
    before = current_isa()
    _C.use_isa(name)
    try:
        yield
    finally:
        _C.use_isa(before)
