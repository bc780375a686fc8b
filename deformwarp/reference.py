"""The formula in PyTorch, readable like docs/mathematics.md: the oracle of every test, the fallback of every device
without kernels, and the formula behind double backward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def arithmetic_dtype(dtype: torch.dtype) -> torch.dtype:
    """What positions and sums are computed in: float64 for float64, float32 for everything narrower.

    >>> arithmetic_dtype(torch.bfloat16)
    torch.float32
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def positions(
    offset: Tensor,  # [N, G, K, 2, Ho, Wo]
    kernel: tuple[int, int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Sampling positions (y, x), each [N, G, K, Ho, Wo] (formula 2).

    The integer part is summed first, so that a position is rounded once, as in torchvision.
    """
    result = []
    for axis in (0, 1):
        out = torch.arange(offset.shape[4 + axis], device=offset.device) * stride[axis] - padding[axis]
        tap = torch.arange(kernel[axis], device=offset.device) * dilation[axis]
        tap_shape, out_shape = [(-1, 1), (1, -1)][axis], [(-1, 1), (1, -1)][axis]
        taps = tap.view(tap_shape).expand(kernel).reshape(-1, 1, 1)  # [K, 1, 1]
        base = taps + out.view(out_shape)  # [K, Ho, 1] or [K, 1, Wo]
        result.append(base.to(offset.dtype) + offset[:, :, :, axis])
    return result[0], result[1]


def sample(input: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Bilinear samples [N, C, K, Ho, Wo] of input [N, C, H, W] at y, x [N, G, K, Ho, Wo] (formulas 3 and 4).

    Outside the image a sample is 0; so it is at a NaN.
    """
    samples, channels, height, width = input.shape
    groups = y.shape[1]
    # On -1 a sample is 0 with a slope to its right, on H it is 0 without one: torchvision's border convention.
    inside = (y >= -1) & (y < height) & (x >= -1) & (x < width)
    y, x = torch.where(inside, y, -2), torch.where(inside, x, -2)
    top, left = y.detach().floor(), x.detach().floor()
    ly, lx = y - top, x - left
    pixels = input.reshape(samples, groups, channels // groups, height * width)
    total: Tensor | None = None
    for down, weight_y in ((0, 1 - ly), (1, ly)):
        for right, weight_x in ((0, 1 - lx), (1, lx)):
            row, column = top.long() + down, left.long() + right
            valid = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = torch.where(valid, row * width + column, 0).flatten(2).unsqueeze(2)  # [N, G, 1, K * Ho * Wo]
            value = pixels.gather(3, index.expand(-1, -1, channels // groups, -1))
            value = value.reshape(samples, groups, channels // groups, *y.shape[2:])
            value = torch.where(valid.unsqueeze(2), value, 0)
            share = value * (weight_y * weight_x).unsqueeze(2)
            total = share if total is None else total + share
    assert total is not None
    return total.reshape(samples, channels, *y.shape[2:])


def warp(
    input: Tensor,  # [N, C, H, W]
    offsets: Sequence[Tensor],  # D x [N, 2*G*Kh*Kw, Ho, Wo]
    masks: Sequence[Tensor],  # none, or D x [N, G*Kh*Kw, Ho, Wo]
    weight: Tensor,  # [D, C_out, C/groups, Kh, Kw]
    bias: Tensor | None,  # [C_out]
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    scale: float,
) -> Tensor:  # [N, C_out, Ho, Wo]
    """The fused warp (formula 8) of a valid problem, differentiable by PyTorch's own autograd any number of times."""
    dtype, exact = input.dtype, arithmetic_dtype(input.dtype)
    branches, out_channels, group_channels, *kernel = weight.shape
    samples, channels, height, width = input.shape
    groups, taps = channels // group_channels, kernel[0] * kernel[1]
    offset_groups = offsets[0].shape[1] // (2 * taps)
    out_size = offsets[0].shape[2:]
    image = input.to(exact)
    total = image.new_zeros(samples, groups, out_channels // groups, *out_size)
    for d in range(branches):
        offset = offsets[d].to(exact).reshape(samples, offset_groups, taps, 2, *out_size)
        y, x = positions(
            offset, (kernel[0], kernel[1]), stride, padding[2 * d : 2 * d + 2], dilation[2 * d : 2 * d + 2]
        )
        columns = sample(image, y, x)  # [N, C, K, Ho, Wo]
        if masks:
            mask = masks[d].to(exact).reshape(samples, offset_groups, 1, taps, *out_size)
            columns = columns.reshape(samples, offset_groups, channels // offset_groups, taps, *out_size) * mask
        columns = columns.reshape(samples, groups, group_channels, taps, *out_size)
        factors = weight[d].to(exact).reshape(groups, out_channels // groups, group_channels, taps)
        total = total + torch.einsum("ngckyx,gock->ngoyx", columns, factors)
    result = scale * total.reshape(samples, out_channels, *out_size)
    if bias is not None:
        result = result + bias.to(exact).reshape(-1, 1, 1)
    return result.to(dtype)


def warp_gradients(
    grad_output: Tensor,  # [N, C_out, Ho, Wo]
    input: Tensor,
    offsets: Sequence[Tensor],
    masks: Sequence[Tensor],
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    scale: float,
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """Gradients of :func:`warp` by input, every offset, every mask and weight; differentiable in turn."""

    def forward(input: Tensor, offsets: list[Tensor], masks: list[Tensor], weight: Tensor) -> Tensor:
        return warp(input, offsets, masks, weight, None, stride, padding, dilation, scale)

    vjp = torch.func.vjp(forward, input, list(offsets), list(masks), weight)[1]
    grads: tuple[Tensor, list[Tensor], list[Tensor], Tensor] = vjp(grad_output)
    return grads
