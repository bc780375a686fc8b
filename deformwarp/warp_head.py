"""Offset convolutions and the warp in one module, which decides how many offsets exist at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from deformwarp.functional import DILATIONS, IntOrPair, as_pair, fused_deform_warp
from deformwarp.modules import FusedDeformWarp
from deformwarp.reference import arithmetic_dtype

Memory = Literal["normal", "low"]


class WarpHead(nn.Module):
    """Features predict the offsets of every dilation, and these warp the input (paper, section 3).

    ``scale * sum_d deform_conv2d(input, offset_convs[d](features), dilation=dilations[d])``. It starts as the identity
    for ``scale = 1 / D``: the offset convolutions at zero, the warp's as :class:`deformwarp.FusedDeformWarp` does.

    The offsets are nearly all of its memory: ``D * 2 * G * Kh * Kw`` numbers a pixel, and as many gradients.
    ``memory="low"`` computes and uses them one dilation at a time, keeps those of the last for the backward and
    computes the others once more there: a fifth of the memory with five dilations, for four more offset convolutions.
    Results agree within rounding. Parameters are the same, and the attribute ``memory`` may be set at any time.

    Args:
        features: F, channels of the features.
        channels: C of the input.
        out_channels: C_out; None for ``channels``.
        kernel_size: odd int or (h, w) pair, of the offset convolutions and of the warp.
        dilations: D ints or (h, w) pairs, of the offset convolutions and of the warp.
        groups: groups of the warp's weight; divides both channel counts.
        offset_groups: G, groups of channels that share offsets; None for one per channel.
        bias: whether the warp learns one.
        offset_bias: whether the offset convolutions learn one.
        scale: factor of the sum; 1 is the paper's, 1/D that of the authors' code.
        memory: ``"normal"`` or ``"low"``.

    Raises:
        ValueError: a count is not positive or does not divide what it should, a kernel size is even, or ``memory`` is
            something else.

    >>> import torch
    >>> head = WarpHead(128, 17, scale=1 / 5, memory="low")
    >>> heatmap = torch.rand(2, 17, 24, 18)
    >>> torch.allclose(head(torch.rand(2, 128, 24, 18), heatmap), heatmap, atol=1e-6)
    True
    """

    def __init__(
        self,
        features: int,
        channels: int,
        out_channels: int | None = None,
        kernel_size: IntOrPair = 3,
        dilations: Sequence[IntOrPair] = DILATIONS,
        *,
        groups: int = 1,
        offset_groups: int | None = None,
        bias: bool = False,
        offset_bias: bool = False,
        scale: float = 1.0,
        memory: Memory = "normal",
    ) -> None:
        super().__init__()
        if features < 1:
            raise ValueError(f"features: is {features}, but should be at least 1")
        kernel = as_pair("kernel_size", kernel_size)
        if any(size % 2 == 0 for size in kernel):
            raise ValueError(f"kernel_size: is {kernel}, but should be odd, so that sizes are kept")
        self.warp = FusedDeformWarp(
            channels,
            out_channels,
            kernel,
            dilations,
            groups=groups,
            offset_groups=offset_groups,
            bias=bias,
            scale=scale,
        )
        self.offset_convs = nn.ModuleList(
            nn.Conv2d(
                features,
                self.warp.offset_channels,
                self.warp.kernel_size,
                padding="same",
                dilation=dilation,
                bias=offset_bias,
            )
            for dilation in self.warp.dilations
        )
        for parameter in self.offset_convs.parameters():
            nn.init.zeros_(parameter)
        self.memory = memory

    @property
    def memory(self) -> Memory:
        """``"normal"``: all offsets at once, kept for the backward. ``"low"``: one dilation at a time."""
        return self._memory

    @memory.setter
    def memory(self, value: Memory) -> None:
        if value not in get_args(Memory):
            raise ValueError(f"memory: is {value!r}, but should be one of {', '.join(map(repr, get_args(Memory)))}")
        self._memory: Memory = value

    def offsets(self, features: Tensor) -> list[Tensor]:
        """What the warp is called with.

        Args:
            features: [N, F, H, W].

        Returns:
            D offset tensors [N, 2*G*Kh*Kw, H, W], (dy, dx) in pixels of the input.
        """
        return [conv(features) for conv in self.offset_convs]

    def forward(self, features: Tensor, input: Tensor) -> Tensor:
        """Warps the input by the offsets that the features predict.

        Args:
            features: [N, F, H, W], of the input's dtype but under autocast.
            input: [N, C, H, W].

        Returns:
            [N, C_out, H, W].

        Raises:
            ValueError: the features' batch or size is not the input's, or a channel count is not the head's.
        """
        self._check(features, input)
        if self.memory == "normal":
            # Not self.offsets: a subclass that computes the features, too, gives the offsets of something else.
            warped: Tensor = self.warp(input, WarpHead.offsets(self, features))
            return warped
        return self._one_by_one(features, input)

    def _one_by_one(self, features: Tensor, input: Tensor) -> Tensor:
        total: Tensor | float = 0.0
        for d in range(len(self.offset_convs)):
            if d + 1 < len(self.offset_convs):
                part = checkpoint(self._branch, d, features, input, use_reentrant=False, preserve_rng_state=False)
            else:  # the backward begins with the last one: its offsets are kept, for they would be computed at once
                part = self._branch(d, features, input)
            total = total + part.to(arithmetic_dtype(part.dtype))
        assert isinstance(total, Tensor)
        return total.to(part.dtype)

    def _branch(self, d: int, features: Tensor, input: Tensor) -> Tensor:
        """The addend of one dilation; the first brings the bias."""
        return fused_deform_warp(
            input,
            [self.offset_convs[d](features)],
            self.warp.weight[d : d + 1],
            self.warp.bias if d == 0 else None,
            dilations=self.warp.dilations[d : d + 1],
            scale=self.warp.scale,
        )

    def _check(self, features: Tensor, input: Tensor) -> None:
        for name, tensor, channels in (
            ("features", features, self.offset_convs[0].in_channels),
            ("input", input, self.warp.channels),
        ):
            if tensor.dim() != 4 or tensor.shape[1] != channels:
                raise ValueError(f"{name}: shape is {list(tensor.shape)}, but should be [N, {channels}, H, W]")
        expected = [input.shape[0], features.shape[1], *input.shape[2:]]
        if list(features.shape) != expected:
            raise ValueError(
                f"features: shape is {list(features.shape)}, but should be {expected}, of the input's batch and size"
            )

    def extra_repr(self) -> str:
        return f"memory={self.memory!r}"
