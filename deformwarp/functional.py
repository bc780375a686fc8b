"""The functions users call: arguments into the operators' form, validated, then one call."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from deformwarp import backends, rules

IntOrPair = int | tuple[int, int]
INTEGERS = (int, torch.SymInt)  # of a graph whose sizes are dynamic, too
DILATIONS = (3, 6, 12, 18, 24)  # PoseWarper's (paper, section 3)


def as_pair(name: str, value: object) -> tuple[int, int]:
    """An int stands for two; the name is that of the argument."""
    if type(value) is int:
        return value, value
    values: Sequence[Any] = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2 or any(isinstance(v, bool) or not isinstance(v, INTEGERS) for v in values):
        raise TypeError(f"{name}: is {value!r}, but should be an int or a pair of ints")
    return values[0], values[1]


def _pairs(name: str, value: Sequence[object]) -> list[int]:
    return [number for d, one in enumerate(value) for number in as_pair(f"{name}[{d}]", one)]


def dilation_pairs(dilations: object) -> list[int]:
    """D times (h, w)."""
    if not isinstance(dilations, Sequence):
        raise TypeError(f"dilations: is {dilations!r}, but should be a sequence of D ints or pairs")
    return _pairs("dilations", dilations)


def as_scale(value: object) -> float:
    """A number; a tensor would look as if it were learned, and the kernels give it no gradient."""
    if not isinstance(value, (Real, torch.SymInt, torch.SymFloat)):
        kind = type(value).__name__
        raise TypeError(f"scale: is a {kind}, but should be a number; to learn one, multiply the output by a Tensor")
    return float(value)


def _tensor(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: is a {type(value).__name__}, but should be a Tensor")
    return value


def _per_branch(name: str, value: Tensor | Sequence[Tensor] | None, form: str) -> list[Tensor]:
    """A sequence as it is; a stacked [N, D, ...] tensor as D views of it."""
    if value is None:
        return []
    if isinstance(value, Tensor):
        if value.dim() != 5:
            raise ValueError(
                f"{name}: shape is {list(value.shape)}, but should be {form} stacked to [N, D, ...], or a sequence of D"
            )
        return list(value.unbind(1))
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name}: is a {type(value).__name__}, but should be a sequence of Tensors or a stacked Tensor")
    return [_tensor(f"{name}[{d}]", one) for d, one in enumerate(value)]


def padding_pairs(value: object, weight: Tensor, dilation: Sequence[int]) -> Sequence[int]:
    """D times (h, w), for the D times (h, w) of ``dilation`` and a weight [D, C_out, C/groups, Kh, Kw]."""
    branches = len(dilation) // 2
    if value == "same":
        kernel = weight.shape[3:]
        if any(size % 2 == 0 for size in kernel):
            raise ValueError(f"padding: 'same' needs odd kernel sizes, but the weight's are {list(kernel)}")
        return [dilation[2 * d + axis] * (kernel[axis] - 1) // 2 for d in range(branches) for axis in (0, 1)]
    if isinstance(value, str):
        raise ValueError(f"padding: is {value!r}, but should be 'same', an int, a pair, or one of these per branch")
    # Two plain ints are one (h, w) pair; anything else with a length is one value per branch.
    is_pair = isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(v, INTEGERS) for v in value)
    if isinstance(value, (tuple, list)) and not is_pair:
        return _pairs("padding", value)
    return as_pair("padding", value) * branches


def _in_dtype_of_offsets(problem: rules.Problem) -> rules.Problem:
    """Under autocast all tensors take the offsets' dtype: positions are never rounded further, and half-precision
    offsets, which are nearly all of the memory traffic, are not widened."""
    floating = [offset.dtype for offset in problem.offsets if offset.dtype in rules.DTYPES]
    if not floating:
        return problem
    dtype = floating[0]
    for other in floating[1:]:
        dtype = torch.promote_types(dtype, other)

    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    return rules.Problem(
        cast(problem.input),
        [cast(offset) for offset in problem.offsets],
        [cast(mask) for mask in problem.masks],
        cast(problem.weight),
        None if problem.bias is None else cast(problem.bias),
        problem.stride,
        problem.padding,
        problem.dilation,
        problem.single,
    )


def _autocasts(problem: rules.Problem) -> bool:
    device = problem.input.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _warp(problem: rules.Problem, scale: float) -> Tensor:
    if not _autocasts(problem):
        return backends.warp(problem, scale)
    problem = _in_dtype_of_offsets(problem)
    # The reference formula's own products must not be rounded.
    with torch.autocast(problem.input.device.type, enabled=False):
        return backends.warp(problem, scale)


def fused_problem(
    input: Tensor,
    offsets: Sequence[Tensor] | Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    dilations: Sequence[IntOrPair] = DILATIONS,
    stride: IntOrPair = 1,
    padding: str | IntOrPair | Sequence[IntOrPair] = "same",
    masks: Sequence[Tensor] | Tensor | None = None,
    scale: float = 1.0,
) -> tuple[rules.Problem, float]:
    """The arguments of :func:`fused_deform_warp` in the operators' form, not yet checked by the rules."""
    _tensor("input", input)
    if _tensor("weight", weight).dim() != 5:
        raise ValueError(f"weight: shape is {list(weight.shape)}, but should be [D, C_out, C/groups, Kh, Kw]")
    dilation = dilation_pairs(dilations)
    problem = rules.Problem(
        input,
        _per_branch("offsets", offsets, "[N, 2*G*Kh*Kw, Ho, Wo]"),
        _per_branch("masks", masks, "[N, G*Kh*Kw, Ho, Wo]"),
        weight,
        None if bias is None else _tensor("bias", bias),
        as_pair("stride", stride),
        padding_pairs(padding, weight, dilation),
        dilation,
    )
    return problem, as_scale(scale)


def fused_deform_warp(
    input: Tensor,
    offsets: Sequence[Tensor] | Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    dilations: Sequence[IntOrPair] = DILATIONS,
    stride: IntOrPair = 1,
    padding: str | IntOrPair | Sequence[IntOrPair] = "same",
    masks: Sequence[Tensor] | Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Sum of D dilated deformable convolutions of one input, in one pass: PoseWarper's warp (section 3 of the paper).

    ``scale * sum_d deform_conv2d(input, offsets[d], weight[d], dilation=dilations[d], mask=masks[d]) + bias``, with
    torchvision's conventions for layouts, offset order and borders. Positions and sums are float32 for float16 and
    bfloat16, float64 for float64. Differentiable twice by input, offsets, masks, weight and bias.

    Args:
        input: [N, C, H, W]; float64, float32, float16 or bfloat16.
        offsets: in pixels of the input, (dy, dx) interleaved: D tensors [N, 2*G*Kh*Kw, Ho, Wo], or one stacked
            [N, D, 2*G*Kh*Kw, Ho, Wo]. G offset groups divide the channels. A sample whose offset is infinite or
            NaN lies outside the image.
        weight: [D, C_out, C/groups, Kh, Kw].
        bias: [C_out]; not scaled.
        dilations: D ints or (h, w) pairs.
        stride: int or (h, w) pair.
        padding: ``"same"`` (``dilation * (kernel - 1) / 2``, for odd kernels), one int or (h, w) pair for all
            branches, or a sequence of D of them. Two plain ints are a pair.
        masks: factors of the samples, as in DCNv2: D tensors [N, G*Kh*Kw, Ho, Wo], or one stacked.
        scale: factor of the sum; 1 is the paper's, 1/D that of the authors' code.

    Returns:
        [N, C_out, Ho, Wo], of the input's dtype.

    Raises:
        ValueError: a shape, length, value or device is wrong; the message names the argument.
        TypeError: a type or dtype is wrong.

    >>> import torch
    >>> heatmap = torch.rand(2, 17, 24, 18)
    >>> offsets = [torch.zeros(2, 2 * 17 * 9, 24, 18) for _ in range(5)]
    >>> fused_deform_warp(heatmap, offsets, torch.rand(5, 17, 17, 3, 3)).shape
    torch.Size([2, 17, 24, 18])
    """
    return _warp(
        *fused_problem(
            input,
            offsets,
            weight,
            bias,
            dilations=dilations,
            stride=stride,
            padding=padding,
            masks=masks,
            scale=scale,
        )
    )


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = (1, 1),
    padding: IntOrPair = (0, 0),
    dilation: IntOrPair = (1, 1),
    mask: Tensor | None = None,
) -> Tensor:
    """Deformable convolution v1 and v2: ``torchvision.ops.deform_conv2d``, to the letter.

    Args:
        input: [N, C, H, W]; float64, float32, float16 or bfloat16.
        offset: [N, 2*G*Kh*Kw, Ho, Wo] in pixels, (dy, dx) interleaved, for G offset groups.
        weight: [C_out, C/groups, Kh, Kw].
        bias: [C_out].
        stride: int or (h, w) pair.
        padding: int or (h, w) pair of zeros around the input.
        dilation: int or (h, w) pair.
        mask: [N, G*Kh*Kw, Ho, Wo], for version 2.

    Returns:
        [N, C_out, Ho, Wo], of the input's dtype.

    Raises:
        ValueError: a shape, value or device is wrong; the message names the argument.
        TypeError: a type or dtype is wrong.

    >>> import torch
    >>> deform_conv2d(torch.rand(1, 3, 8, 8), torch.zeros(1, 18, 6, 6), torch.rand(5, 3, 3, 3)).shape
    torch.Size([1, 5, 6, 6])
    """
    if _tensor("weight", weight).dim() != 4:
        raise ValueError(f"weight: shape is {list(weight.shape)}, but should be [C_out, C/groups, Kh, Kw]")
    problem = rules.Problem(
        _tensor("input", input),
        [_tensor("offset", offset)],
        [] if mask is None else [_tensor("mask", mask)],
        weight.unsqueeze(0),
        None if bias is None else _tensor("bias", bias),
        as_pair("stride", stride),
        as_pair("padding", padding),
        as_pair("dilation", dilation),
        single=True,
    )
    return _warp(problem, 1.0)
