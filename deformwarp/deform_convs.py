"""Reads the deformable convolutions of torchvision, mmcv and deformwarp, without importing any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from deformwarp.functional import IntOrPair


@dataclass(frozen=True)
class DeformConvSpec:
    """What a deformable convolution of any library is."""

    channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    offset_groups: int | None  # None where the module leaves it to the offsets
    weight: Tensor  # [C_out, C/groups, Kh, Kw]
    bias: Tensor | None  # [C_out]


# By package and class, so that neither library has to be imported, or installed.
_DEFORM_CONVS = {
    ("torchvision", "DeformConv2d"),
    ("mmcv", "DeformConv2d"),
    ("mmcv", "ModulatedDeformConv2d"),
    ("deformwarp", "DeformConv2d"),
}
_ACCEPTED = "a DeformConv2d of torchvision, mmcv or deformwarp, or mmcv's ModulatedDeformConv2d"


def _known(kind: type) -> bool:
    return (kind.__module__.partition(".")[0], kind.__name__) in _DEFORM_CONVS


def is_deform_conv(module: nn.Module) -> bool:
    """Whether it is, or derives from, a deformable convolution; :func:`describe_deform_conv` may still refuse it."""
    return any(map(_known, type(module).__mro__))


def _pair(value: IntOrPair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def describe_deform_conv(conv: nn.Module, name: str) -> DeformConvSpec:
    """Reads a deformable convolution of torchvision, mmcv or deformwarp.

    Args:
        conv: ``DeformConv2d`` of torchvision, mmcv or deformwarp, or mmcv's ``ModulatedDeformConv2d``.
        name: what messages call it.

    Returns:
        Its sizes and its very own weight [C_out, C/groups, Kh, Kw] and bias [C_out].

    Raises:
        TypeError: it is something else, or has a forward of its own, as mmcv's packs do.

    >>> import deformwarp
    >>> spec = describe_deform_conv(deformwarp.DeformConv2d(4, 6, (3, 5), padding=2), "conv")
    >>> spec.kernel_size, spec.padding, tuple(spec.weight.shape)
    ((3, 5), (2, 2), (6, 4, 3, 5))
    """
    kind = type(conv)
    if not is_deform_conv(conv):
        raise TypeError(f"{name}: is a {kind.__name__}, but should be {_ACCEPTED}")
    if not _known(next(cls for cls in kind.__mro__ if "forward" in vars(cls))):
        if hasattr(conv, "conv_offset"):
            problem = "which predicts its own offsets inside"
        else:
            problem = "a subclass with a forward of its own"
        raise TypeError(f"{name}: is a {kind.__name__}, {problem}, but should be {_ACCEPTED}")
    module: Any = conv
    offset_groups = getattr(module, "deform_groups", getattr(module, "deformable_groups", None))
    return DeformConvSpec(
        channels=module.in_channels,
        out_channels=module.out_channels,
        kernel_size=_pair(module.kernel_size),
        stride=_pair(module.stride),
        padding=_pair(module.padding),
        dilation=_pair(module.dilation),
        groups=module.groups,
        offset_groups=offset_groups,
        weight=module.weight,
        bias=getattr(module, "bias", None),  # mmcv's DeformConv2d has none
    )
