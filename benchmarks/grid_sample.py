"""The warp through ``torch.nn.functional.grid_sample``: the best formulation we found for the CPU.

Tried on two cores (PoseWarper's shape, N = 1; forward / forward + backward in ms, same run): this one 25 / 90;
one call per tap 35 / 357; one call per kernel row 28 / 117; one call for all dilations (offsets concatenated) 41 / 110;
grids with x and y interleaved in memory, or the image not transposed, 20-30 % slower.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.workloads import Inputs, Workload


def _base_grid(workload: Workload, branch: int, dtype: torch.dtype) -> Tensor:
    """Positions without offsets, in grid_sample's units: [2 (y, x), K, Ho, Wo]."""
    axes = []
    sizes = (workload.height, workload.width)
    for axis in (0, 1):
        out = torch.arange(workload.out_size[axis]) * workload.stride - workload.padding(branch)[axis]
        tap = torch.arange(workload.kernel[axis]) * workload.dilations[branch]
        shape = [1, 1, 1, 1]
        shape[axis], shape[2 + axis] = tap.numel(), out.numel()
        position = (tap[:, None] + out).reshape(shape)
        axes.append(position.expand(*workload.kernel, *workload.out_size).to(dtype) * 2 / (sizes[axis] - 1) - 1)
    return torch.stack(axes).reshape(2, workload.taps, *workload.out_size)


def grid_sample_warp(workload: Workload) -> Callable[[Inputs], Tensor]:
    """The warp of one workload; whatever does not depend on the tensors' values is computed here, once.

    Offset groups are folded into the batch and taps into the grid's rows. The image is transposed, so that (y, x)
    offsets are a grid as they are, and the grid keeps y and x in separate planes, which the kernel reads fastest.
    """
    dtype = torch.float64 if workload.dtype == "float64" else torch.float32  # positions in halves would be wrong
    bases = [_base_grid(workload, branch, dtype) for branch in range(workload.branches)]
    units = torch.tensor([2 / (workload.height - 1), 2 / (workload.width - 1)], dtype=dtype).view(2, 1, 1, 1)
    out_height, out_width = workload.out_size
    groups, taps, folded = workload.groups, workload.taps, workload.samples * workload.offset_groups
    group_channels = workload.channels // workload.offset_groups
    rows = workload.channels // groups * taps

    def columns(image: Tensor, offset: Tensor, mask: Tensor | None, base: Tensor) -> Tensor:
        planes = offset.to(dtype).reshape(folded, taps, 2, out_height, out_width).transpose(1, 2)
        # The result has the base's order of dimensions: each of y and x is one plane, without a copy.
        grid = torch.addcmul(base, planes, units).reshape(folded, 2, taps * out_height, out_width)
        samples = F.grid_sample(image, grid.permute(0, 2, 3, 1), align_corners=True)
        if mask is not None:
            samples = samples * mask.to(dtype).reshape(folded, 1, taps * out_height, out_width)
        return samples.reshape(workload.samples * groups, rows, out_height * out_width)

    def warp(inputs: Inputs) -> Tensor:
        image = inputs.input.to(dtype).transpose(2, 3)
        image = image.reshape(folded, group_channels, workload.width, workload.height)
        total: Tensor | None = None
        for d in range(workload.branches):
            samples = columns(image, inputs.offsets[d], inputs.masks[d] if inputs.masks else None, bases[d])
            factors = inputs.weight[d].to(dtype).reshape(1, groups, -1, rows).expand(workload.samples, -1, -1, -1)
            factors = factors.reshape(workload.samples * groups, -1, rows)
            total = torch.bmm(factors, samples) if total is None else torch.baddbmm(total, factors, samples)
        assert total is not None
        result = total.reshape(workload.shapes["output"])
        if workload.scale != 1:
            result = result * workload.scale
        if inputs.bias is not None:
            result = result + inputs.bias.to(dtype).view(-1, 1, 1)
        return result.to(inputs.input.dtype)

    return warp
