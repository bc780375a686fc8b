"""The Triton kernels as operators: under names of their own, and for GPUs whose CUDA kernels are not in the build.

Importing this imports no Triton. The operators are opaque to ``torch.compile``, as the compiled ones are: PyTorch's
tracing of Triton kernels does not take the tuples of tensors that these have for arguments.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deformwarp import native, ops, rules
from deformwarp.triton.availability import why_not


def _warp(*args: Any) -> Tensor:
    from deformwarp.triton import launch

    return launch.warp(*args)


def _warp_backward(*args: Any) -> ops.Gradients:
    from deformwarp.triton import launch

    return launch.warp_backward(*args)


_library = torch.library.Library("deformwarp", "FRAGMENT")
for _like, _name, _kernel in (
    (torch.ops.deformwarp.warp, "warp_triton", _warp),
    (torch.ops.deformwarp.warp_backward, "warp_triton_backward", _warp_backward),
):
    _arguments = str(_like.default._schema).split("(", 1)[1]
    _library.define(f"{_name}({_arguments}")
    _library.impl(_name, _kernel, "CompositeExplicitAutograd")

TRITON = ops.complete("warp_triton")


@functools.cache
def _warn_of_formula(reason: str) -> None:
    warnings.warn(
        f"deformwarp: backend 'triton' cannot take a problem: {reason}: backend 'reference' takes over, "
        "which is slower",
        stacklevel=2,
    )


def _takes(
    input: Tensor,
    offsets: Sequence[Tensor],
    masks: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> bool:
    problem = rules.Problem(input, offsets, masks, weight, bias, stride, padding, dilation)
    rules.check(problem)
    reason = why_not(problem)
    if reason is not None:
        _warn_of_formula(reason)
    elif native.CUDA_ARCHITECTURES:
        ops.warn_of_fallback(input.device, "triton")
    return reason is None


def _warp_on_gpu(*args: Any) -> Tensor:
    *arguments, _ = args
    return (_warp if _takes(*arguments) else ops.warp_by_formula)(*args)


def _warp_backward_on_gpu(grad_output: Tensor, *args: Any) -> ops.Gradients:
    input, offsets, masks, weight, stride, padding, dilation, *_ = args
    takes = _takes(input, offsets, masks, weight, None, stride, padding, dilation)
    return (_warp_backward if takes else ops.warp_backward_by_formula)(grad_output, *args)


# With CUDA kernels in the build, these take over on GPUs for which they were not compiled.
_place = "_fallback" if native.CUDA_ARCHITECTURES else ""
_library.impl(f"warp{_place}", _warp_on_gpu, "CUDA")
_library.impl(f"warp_backward{_place}", _warp_backward_on_gpu, "CUDA")
