"""The integers of a problem, as kernels take them. Knows no Triton: settings and tests use it too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from deformwarp import rules


class Shape(NamedTuple):
    """Sizes that all branches share."""

    samples: int  # N
    channels: int  # C
    height: int
    width: int
    out_channels: int
    out_width: int
    out_area: int  # Ho * Wo
    taps: int  # K = Kh * Kw, of one branch
    kernel_w: int
    stride_h: int
    stride_w: int
    group_channels: int  # C / groups
    group_out_channels: int  # C_out / groups
    offset_group_channels: int  # C / G
    segment: int  # channels that share both an offset group and a weight group

    @property
    def groups(self) -> int:
        return self.channels // self.group_channels

    @property
    def offset_groups(self) -> int:
        return self.channels // self.offset_group_channels


class Branches(NamedTuple):
    """What differs from branch to branch: D entries each."""

    dilations_h: tuple[int, ...]
    dilations_w: tuple[int, ...]
    paddings_h: tuple[int, ...]
    paddings_w: tuple[int, ...]
    offset_strides: tuple[int, ...]  # elements from one sample to the next
    mask_strides: tuple[int, ...]


def shape_of(problem: rules.Problem) -> Shape:
    """The sizes of a valid problem."""
    samples, channels, height, width = problem.input.shape
    _, out_channels, out_height, out_width = problem.output_shape
    kernel_h, kernel_w = problem.kernel
    group_channels = channels // problem.groups
    offset_group_channels = channels // problem.offset_groups
    return Shape(
        samples,
        channels,
        height,
        width,
        out_channels,
        out_width,
        out_height * out_width,
        kernel_h * kernel_w,
        kernel_w,
        problem.stride[0],
        problem.stride[1],
        group_channels,
        out_channels // problem.groups,
        offset_group_channels,
        math.gcd(group_channels, offset_group_channels),
    )


def branches_of(problem: rules.Problem, offset_strides: Sequence[int], mask_strides: Sequence[int]) -> Branches:
    """What differs between the branches of a valid problem."""
    return Branches(
        tuple(problem.dilation[0::2]),
        tuple(problem.dilation[1::2]),
        tuple(problem.padding[0::2]),
        tuple(problem.padding[1::2]),
        tuple(offset_strides),
        tuple(mask_strides),
    )
