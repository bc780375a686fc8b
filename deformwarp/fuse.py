"""Replaces the deformable convolutions of somebody's model."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from deformwarp.functional import IntOrPair
from deformwarp.modules import DeformConv2d


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


def describe_deform_conv(conv: nn.Module, name: str) -> DeformConvSpec:
    """Reads a deformable convolution of torchvision, mmcv or deformwarp; ``name`` is what messages call it."""
    raise NotImplementedError


@dataclass
class FusionReport:
    """What was replaced."""

    replaced: list[str] = field(default_factory=list)


def fuse_deform_convs(model: nn.Module) -> FusionReport:
    raise NotImplementedError
