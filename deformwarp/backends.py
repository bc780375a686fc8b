"""Who can take a problem, and why not.

PyTorch's dispatcher is the selector: a tensor's device names the kernels, and where it has none the operator runs the
reference formula. :func:`use_backend` overrides the choice, for tests and comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from deformwarp import native, ops, reference, rules
from deformwarp.triton import availability as triton
from deformwarp.triton.operators import TRITON


@dataclass(frozen=True)
class Backend:
    """One implementation of the warp."""

    name: str
    device: str  # where it runs, in words
    why_not_here: Callable[[], str | None]  # why this machine cannot run it at all, or None
    why_not: Callable[[rules.Problem], str | None]  # why it cannot take this problem, or None
    warp: Callable[[rules.Problem, float], Tensor]


def _by_formula(problem: rules.Problem, scale: float) -> Tensor:
    return reference.warp(
        problem.input,
        problem.offsets,
        problem.masks,
        problem.weight,
        problem.bias,
        problem.stride,
        problem.padding,
        problem.dilation,
        scale,
    )


def _by_triton(problem: rules.Problem, scale: float) -> Tensor:
    return ops.warp(problem, scale, TRITON)


def _not_on_cpu(problem: rules.Problem) -> str | None:
    device = problem.input.device
    return None if device.type == "cpu" else f"its tensors are on {device}, and these kernels run on cpu"


def _no_cuda_on(device: torch.device | None) -> str | None:
    architecture = 10 * (capability := torch.cuda.get_device_capability(device))[0] + capability[1]
    if native.cuda_runs_on(architecture):
        return None
    return f"its kernels are built for {native.CUDA_ARCHITECTURES}, and the GPU is sm_{architecture}"


def _no_cuda_here() -> str | None:
    if not native.CUDA_ARCHITECTURES:
        return "this build has no CUDA kernels: no nvcc was found"
    if torch.version.cuda is not None and not native.torch_names_cuda_streams():
        return f"torch {torch.__version__} does not name its current CUDA stream"
    return _no_cuda_on(None) if torch.cuda.is_available() else "torch sees no GPU"


def _not_on_cuda(problem: rules.Problem) -> str | None:
    device = problem.input.device
    if device.type != "cuda":
        return f"its tensors are on {device}, and these kernels run on cuda"
    return _no_cuda_here() or _no_cuda_on(device)


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("reference", "any device", lambda: None, lambda problem: None, _by_formula),
        Backend("cpu", "CPU", lambda: None, _not_on_cpu, ops.warp),
        Backend("cuda", "NVIDIA GPUs", _no_cuda_here, _not_on_cuda, ops.warp),
        Backend("triton", "NVIDIA and AMD GPUs", triton.why_not_here, triton.why_not, _by_triton),
    )
}

_forced: str | None = None


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within the block, every warp of the process runs on one backend.

    Args:
        name: ``"reference"`` (pure PyTorch, any device), ``"cpu"`` (C++), ``"cuda"`` (CUDA C++) or ``"triton"``.

    Raises:
        ValueError: there is no such backend.
        RuntimeError: within the block, the backend cannot take a problem; the message says why.

    >>> import torch
    >>> import deformwarp
    >>> x, offset, weight = torch.rand(1, 1, 4, 4), torch.zeros(1, 18, 4, 4), torch.rand(1, 1, 3, 3)
    >>> with use_backend("reference"):
    ...     deformwarp.deform_conv2d(x, offset, weight, padding=1).shape
    torch.Size([1, 1, 4, 4])
    """
    global _forced
    if name not in BACKENDS:
        raise ValueError(f"name: is {name!r}, but should be one of {', '.join(BACKENDS)}")
    before = _forced
    _forced = name
    try:
        yield
    finally:
        _forced = before


def backend_for(problem: rules.Problem) -> str:
    """The name of the backend that a problem runs on.

    Raises:
        RuntimeError: :func:`use_backend` asked for one that cannot take it.
    """
    if _forced is None:
        candidates = {"cpu": ("cpu",), "cuda": ("cuda", "triton")}.get(problem.input.device.type, ())
        return next((name for name in candidates if BACKENDS[name].why_not(problem) is None), "reference")
    reason = BACKENDS[_forced].why_not(problem)
    if reason is not None:
        raise RuntimeError(f"backend {_forced!r} cannot take this problem: {reason}")
    return _forced


def warp(problem: rules.Problem, scale: float) -> Tensor:
    """The warp of a problem on the backend that the dispatcher, or :func:`use_backend`, chooses.

    Raises:
        ValueError: the problem breaks a rule of shapes, lengths, values or devices.
        TypeError: it breaks a rule of dtypes.
        RuntimeError: :func:`use_backend` asked for a backend that cannot take it.
    """
    if _forced is not None:
        rules.check(problem)
        return BACKENDS[backend_for(problem)].warp(problem, scale)
    try:
        return ops.warp(problem, scale)
    except (RuntimeError, TypeError, ValueError):
        # Kernels check the rules themselves, in less time than the table takes, but do not know the caller's words.
        error = rules.violation(problem)
        if error is None:
            raise
        raise error from None
