"""Loads the compiled library and knows what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch  # brings the libraries that the compiled one is linked to

from deformwarp import rules

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
        name: one of :func:`deformwarp.native.available_isas`.

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


def cuda_runs_on(architecture: int, built: str = CUDA_ARCHITECTURES) -> bool:
    """Whether CUDA kernels built for a list of architectures run on a GPU of compute capability ``architecture / 10``.

    Machine code runs on its major version's later devices, PTX (``virtual``) on all later ones.

    >>> cuda_runs_on(86, "75-real 80-real"), cuda_runs_on(90, "75-real 80-real"), cuda_runs_on(90, "80-virtual")
    (True, False, True)
    """
    return bool(_C.cuda_runs_on(built, architecture))


def torch_names_cuda_streams() -> bool:
    """Whether torch can be asked for its current stream on a GPU, which every launch needs; a CPU build cannot.

    >>> import torch
    >>> torch_names_cuda_streams() == (torch.version.cuda is not None)
    True
    """
    return bool(_C.torch_names_cuda_streams())


@dataclass(frozen=True)
class CudaDevice:
    """What launch plans need to know of a GPU; the figures that CUDA reports for an H100 or H200 are the default."""

    architecture: int = 90  #: compute capability, 10 * major + minor
    multiprocessors: int = 132
    shared_bytes_per_block: int = 227 << 10  #: the most that a block can ask for
    shared_bytes_per_multiprocessor: int = 228 << 10
    shared_bytes_reserved_per_block: int = 1 << 10  #: beyond what it asks for
    threads_per_multiprocessor: int = 2048


@dataclass(frozen=True)
class CudaLaunch:
    """One kernel launch."""

    kernel: str
    blocks: int
    threads: int
    shared_bytes: int


@dataclass(frozen=True)
class CudaPlan:
    """How the CUDA kernels take a problem."""

    path: str  #: ``"general"`` or ``"planar"``
    why_not_planar: str  #: why the faster path does not take it; empty where it does
    launches: tuple[CudaLaunch, ...]
    workspace_bytes: int  #: beside the results


def cuda_plan(
    problem: rules.Problem,
    device: CudaDevice | None = None,
    *,
    backward: bool = False,
    input: bool = True,
    sampling: bool = True,
    weight: bool = True,
) -> CudaPlan:
    """The launches of a forward, or of a backward, of a valid problem. Nothing runs, and no GPU is needed.

    Args:
        problem: only sizes, dtype and whether there are masks count; tensors may be on ``meta``.
        device: the GPU; an H200 by default.
        backward: plan the backward.
        input: a backward computes the gradient by the input.
        sampling: it computes those by offsets or masks.
        weight: it computes the one by the weight.

    Raises:
        ValueError: the problem needs more blocks than a launch can have.

    >>> shapes = [(16, 17, 96, 72), (16, 306, 96, 72), (1, 17, 17, 3, 3)]
    >>> input, offset, weight = (torch.empty(shape, device="meta") for shape in shapes)
    >>> plan = cuda_plan(rules.Problem(input, [offset], [], weight, None, [1, 1], [3, 3], [3, 3]))
    >>> plan.workspace_bytes
    0
    """
    out_height, out_width = problem.branch_size(0)
    sizes: dict[str, Any] = {
        "dtype": str(problem.input.dtype).removeprefix("torch."),
        "samples": problem.input.shape[0],
        "channels": problem.input.shape[1],
        "height": problem.input.shape[2],
        "width": problem.input.shape[3],
        "out_channels": problem.weight.shape[1],
        "out_height": out_height,
        "out_width": out_width,
        "kernel_h": problem.kernel[0],
        "kernel_w": problem.kernel[1],
        "stride_h": problem.stride[0],
        "stride_w": problem.stride[1],
        "groups": problem.groups,
        "offset_groups": problem.offset_groups,
        "masked": len(problem.masks) > 0,
        "dilations": list(zip(problem.dilation[::2], problem.dilation[1::2], strict=True)),
        "paddings": list(zip(problem.padding[::2], problem.padding[1::2], strict=True)),
    }
    on = asdict(device or CudaDevice())
    wanted = (input, sampling, weight)
    plan = _C.cuda_plan_backward(sizes, on, *wanted) if backward else _C.cuda_plan_forward(sizes, on)
    launches = tuple(CudaLaunch(**launch) for launch in plan["launches"])
    return CudaPlan(plan["path"], plan["why_not_planar"], launches, plan["workspace_bytes"])
