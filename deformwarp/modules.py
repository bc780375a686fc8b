"""The layers: parameters around the functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deformwarp.deform_convs import describe_deform_conv
from deformwarp.functional import (
    DILATIONS,
    IntOrPair,
    as_pair,
    as_scale,
    deform_conv2d,
    dilation_pairs,
    fused_deform_warp,
    padding_pairs,
)


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name}: is {value}, but should be at least 1")
    return value


def _divides(name: str, part: int, whole_name: str, whole: int) -> None:
    if whole % part != 0:
        raise ValueError(f"{name}: is {part}, but should divide {whole_name} = {whole}")


class FusedDeformWarp(nn.Module):
    """PoseWarper's warp: the sum of D dilated deformable convolutions of one input, in one pass (paper, section 3).

    It starts as the identity: the centre taps of one branch's worth of weight sum to 1 on the diagonal, so that with
    zero offsets the output is ``input`` for ``scale = 1 / D`` (the authors' code) and ``D * input`` for ``scale = 1``.

    Args:
        channels: C of the input.
        out_channels: C_out; None for ``channels``.
        kernel_size: int or (h, w) pair.
        dilations: D ints or (h, w) pairs.
        groups: groups of the weight; divides both channel counts.
        offset_groups: G, groups of channels that share offsets; None for one per channel.
        stride: int or (h, w) pair.
        padding: as in :func:`deformwarp.fused_deform_warp`.
        bias: whether to learn one, started at 0.
        scale: factor of the sum; 1 is the paper's, 1/D that of the authors' code.

    Raises:
        ValueError: a count, size or dilation is not positive, a count does not divide what it should, or the padding
            does not go with the kernel.
        TypeError: an argument is not of its type; ``scale`` is a number, not a tensor, which would get no gradient.

    >>> layer = FusedDeformWarp(17, scale=1 / 5)
    >>> heatmap = torch.rand(2, 17, 24, 18)
    >>> offsets = [torch.zeros(2, layer.offset_channels, 24, 18) for _ in layer.dilations]
    >>> torch.allclose(layer(heatmap, offsets), heatmap)
    True
    """

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        kernel_size: IntOrPair = 3,
        dilations: Sequence[IntOrPair] = DILATIONS,
        *,
        groups: int = 1,
        offset_groups: int | None = None,
        stride: IntOrPair = 1,
        padding: str | IntOrPair | Sequence[IntOrPair] = "same",
        bias: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.channels = _positive("channels", channels)
        self.out_channels = _positive("out_channels", channels if out_channels is None else out_channels)
        self.kernel_size = as_pair("kernel_size", kernel_size)
        dilation = dilation_pairs(dilations)
        self.dilations = tuple(dilations)
        self.groups = _positive("groups", groups)
        self.offset_groups = _positive("offset_groups", channels if offset_groups is None else offset_groups)
        self.stride = stride
        self.padding = padding
        self.scale = as_scale(scale)
        _positive("stride", min(as_pair("stride", stride)))
        _positive("kernel_size", min(self.kernel_size))
        _positive("dilations: length", len(self.dilations))
        _positive("dilations", min(dilation))
        _divides("groups", self.groups, "channels", self.channels)
        _divides("groups", self.groups, "out_channels", self.out_channels)
        _divides("offset_groups", self.offset_groups, "channels", self.channels)
        shape = (len(self.dilations), self.out_channels, channels // groups, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        padding_pairs(padding, self.weight, dilation)
        self.bias = nn.Parameter(torch.empty(self.out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Identity: 1 on the diagonal of the centre tap, 0 elsewhere."""
        with torch.no_grad():
            self.weight.zero_()
            for row in range(min(self.out_channels, self.channels)):
                group = row // (self.out_channels // self.groups)
                column = row - group * (self.channels // self.groups)
                if 0 <= column < self.channels // self.groups:
                    self.weight[:, row, column, self.kernel_size[0] // 2, self.kernel_size[1] // 2] = 1
            if self.bias is not None:
                self.bias.zero_()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # `model.to(memory_format=torch.channels_last)` asks it of five dimensions, too, which have no such format.
        def apply(tensor: Tensor) -> Tensor:
            if tensor.dim() != 5:
                return fn(tensor)
            return fn(tensor.flatten(0, 1)).view(tensor.shape).contiguous()

        return super()._apply(apply, recurse)  # type: ignore[no-untyped-call]

    @property
    def offset_channels(self) -> int:
        """Channels of each offset tensor, 2*G*Kh*Kw."""
        return 2 * self.mask_channels

    @property
    def mask_channels(self) -> int:
        """Channels of each mask tensor, G*Kh*Kw."""
        return self.offset_groups * self.kernel_size[0] * self.kernel_size[1]

    def forward(
        self, input: Tensor, offsets: Sequence[Tensor] | Tensor, masks: Sequence[Tensor] | Tensor | None = None
    ) -> Tensor:
        """Warps ``input`` [N, C, H, W] to [N, C_out, Ho, Wo]; see :func:`deformwarp.fused_deform_warp`."""
        return fused_deform_warp(
            input,
            offsets,
            self.weight,
            self.bias,
            dilations=self.dilations,
            stride=self.stride,
            padding=self.padding,
            masks=masks,
            scale=self.scale,
        )

    @classmethod
    def from_deform_convs(
        cls, convs: Sequence[nn.Module], *, scale: float = 1.0, offset_groups: int | None = None
    ) -> FusedDeformWarp:
        """One layer that computes ``scale`` times the sum of several deformable convolutions of one input.

        Takes over their weights (copied, on their device, in their dtype), and their biases, summed and scaled.

        Args:
            convs: D modules of torchvision (``DeformConv2d``), mmcv (``DeformConv2d``, ``ModulatedDeformConv2d``) or
                deformwarp, alike but for dilation, padding and parameters.
            scale: factor of the sum.
            offset_groups: G. Torchvision's modules leave it to the offsets, and so does the layer's forward: it only
                sets ``offset_channels``. None for that of the modules, or for one per channel where they do not say.

        Returns:
            The layer, of the first module's dtype and on its device.

        Raises:
            ValueError: the modules are none, or differ in what the layer has only one of.
            TypeError: one of them is not a deformable convolution.

        >>> from torchvision.ops import DeformConv2d as Theirs
        >>> convs = [Theirs(4, 4, 3, padding=d, dilation=d, bias=False) for d in (1, 2)]
        >>> FusedDeformWarp.from_deform_convs(convs).dilations
        ((1, 1), (2, 2))
        """
        if not convs:
            raise ValueError("convs: is empty, but should hold at least one deformable convolution")
        specs = [describe_deform_conv(conv, f"convs[{d}]") for d, conv in enumerate(convs)]
        for name in ("channels", "out_channels", "kernel_size", "groups", "offset_groups", "stride"):
            for d, spec in enumerate(specs):
                if getattr(spec, name) != getattr(specs[0], name):
                    raise ValueError(
                        f"convs[{d}]: {name} is {getattr(spec, name)}, but should be "
                        f"{getattr(specs[0], name)}, as that of convs[0]"
                    )
        biases = [spec.bias for spec in specs if spec.bias is not None]
        first = specs[0]
        layer = cls(
            first.channels,
            first.out_channels,
            first.kernel_size,
            [spec.dilation for spec in specs],
            groups=first.groups,
            offset_groups=first.offset_groups if offset_groups is None else offset_groups,
            stride=first.stride,
            padding=[spec.padding for spec in specs],
            bias=bool(biases),
            scale=scale,
        ).to(first.weight)
        with torch.no_grad():
            layer.weight.copy_(torch.stack([spec.weight for spec in specs]))
            if layer.bias is not None:
                layer.bias.copy_(scale * torch.stack(biases).sum(0))
        return layer

    def extra_repr(self) -> str:
        return (
            f"{self.channels}, {self.out_channels}, kernel_size={self.kernel_size}, dilations={self.dilations}, "
            f"groups={self.groups}, offset_groups={self.offset_groups}, stride={self.stride}, "
            f"padding={self.padding!r}, bias={self.bias is not None}, scale={self.scale}"
        )


class DeformConv2d(nn.Module):
    """``torchvision.ops.DeformConv2d``: the same arguments, parameters, initialisation and state dict.

    Args:
        in_channels: C of the input.
        out_channels: C_out.
        kernel_size: int or (h, w) pair.
        stride, padding, dilation: ints or (h, w) pairs.
        groups: groups of the weight; divides both channel counts.
        bias: whether to learn one.

    Raises:
        ValueError: a count, size or dilation is not positive, or ``groups`` does not divide a channel count.
        TypeError: what should be an int or a pair of ints is something else.

    >>> layer = DeformConv2d(3, 5, kernel_size=3, padding=1)
    >>> layer(torch.rand(1, 3, 8, 8), torch.zeros(1, 18, 8, 8)).shape
    torch.Size([1, 5, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = _positive("in_channels", in_channels)
        self.out_channels = _positive("out_channels", out_channels)
        self.kernel_size = as_pair("kernel_size", kernel_size)
        self.stride = as_pair("stride", stride)
        self.padding = as_pair("padding", padding)
        self.dilation = as_pair("dilation", dilation)
        _positive("kernel_size", min(self.kernel_size))
        _positive("stride", min(self.stride))
        _positive("dilation", min(self.dilation))
        self.groups = _positive("groups", groups)
        _divides("groups", groups, "in_channels", in_channels)
        _divides("groups", groups, "out_channels", out_channels)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming's uniform initialisation, as in torchvision and ``torch.nn.Conv2d``."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolves ``input`` [N, C, H, W] to [N, C_out, Ho, Wo]; see :func:`deformwarp.deform_conv2d`."""
        return deform_conv2d(input, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, bias={self.bias is not None}"
        )
