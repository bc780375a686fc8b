"""``deformwarp.tune``: measures the Triton kernels' launch settings for one problem, and remembers the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deformwarp import functional, rules
from deformwarp.triton import availability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deformwarp.triton.tuning import Tuned


def tune(input: Tensor, offsets: Sequence[Tensor] | Tensor, weight: Tensor, **options: Any) -> Tuned:
    """Find the fastest launch settings of the Triton kernels for problems of this shape, dtype and GPU.

    Never needed: without it, settings are computed from the shape, and no call ever measures anything. What is found is
    used from then on, in this process and in later ones; but for the last bits of the weight's gradient, results stay
    the same. It is kept in ``deformwarp/triton.json`` in the user's cache folder (``$XDG_CACHE_HOME``, or
    ``~/.cache``).

    Args:
        input: [N, C, H, W] on a GPU; float32, float16 or bfloat16.
        offsets: as those of :func:`deformwarp.fused_deform_warp`: D tensors [N, 2*G*Kh*Kw, Ho, Wo], or one stacked.
            They should be like those in use: how smooth they are decides what is fast.
        weight: [D, C_out, C/groups, Kh, Kw].
        options: the further arguments of :func:`deformwarp.fused_deform_warp`.

    Returns:
        The tiles found for forward and backward, and the file.

    Raises:
        ValueError, TypeError: as :func:`deformwarp.fused_deform_warp`; or the file in the cache is not deformwarp's.
        RuntimeError: the Triton kernels cannot take the problem; the message says why.

    >>> tune(torch.rand(1, 2, 4, 4), [torch.zeros(1, 4, 4, 4)], torch.rand(1, 2, 2, 1, 1), dilations=[1])
    Traceback (most recent call last):
    ...
    RuntimeError: backend 'triton' cannot take this problem: its tensors are on cpu, and these kernels run on cuda
    """
    problem, scale = functional.fused_problem(input, offsets, weight, **options)
    rules.check(problem)
    reason = availability.why_not(problem)
    if reason is not None:
        raise RuntimeError(f"backend 'triton' cannot take this problem: {reason}")
    from deformwarp.triton import launch, tuning
    from deformwarp.triton.arguments import shape_of

    key = (shape_of(problem), problem.branches, input.dtype, launch.device_of(input.device.index))
    geometry = (problem.stride, problem.padding, problem.dilation, scale)
    tensors = (problem.input, problem.offsets, problem.masks, problem.weight)
    grad_output = input.new_ones(problem.output_shape)

    def forward() -> object:
        return launch.warp(*tensors, problem.bias, *geometry)

    def backward() -> object:
        return launch.warp_backward(grad_output, *tensors, *geometry, True, True, True, True)

    with torch.no_grad(), torch.cuda.device_of(input):
        forward_tile = tuning.best_tile(key, "forward", forward, tuning.milliseconds)
        backward_tile = tuning.best_tile(key, "backward", backward, tuning.milliseconds)
    return tuning.Tuned(forward_tile, backward_tile, tuning.remember(key, forward_tile, backward_tile))
