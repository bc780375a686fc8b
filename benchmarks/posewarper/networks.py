"""The networks that are measured, each with the fused layer and with the calls that it replaces."""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from benchmarks.workloads import OFFSET_SIGMA
from deformwarp import FusedDeformWarp
from posewarper_models.checkpoints import load_checkpoint
from posewarper_models.network import PoseWarper, build_posewarper


class FiveCalls(nn.Module):
    """What :class:`FusedDeformWarp` replaces: torchvision's calls, their sum, and the scale."""

    def __init__(self, fused: FusedDeformWarp) -> None:
        super().__init__()
        self.weight = nn.Parameter(fused.weight.detach().clone())  # [D, C, C, 3, 3]
        self.dilations, self.scale, self.channels = fused.dilations, fused.scale, fused.channels

    def forward(self, heatmap: Tensor, offsets: Sequence[Tensor]) -> Tensor:
        calls = zip(self.weight, offsets, self.dilations, strict=True)
        branches = (deform_conv2d(heatmap, offset, weight, padding=d, dilation=d) for weight, offset, d in calls)
        return functools.reduce(operator.add, branches) * self.scale


class Network(Protocol):
    """How to come by a network; small enough to be sent to another process."""

    def make(self) -> PoseWarper:
        """The same weights every time, on the CPU."""


@dataclass(frozen=True)
class Trained:
    """A checkpoint's."""

    path: Path

    def make(self) -> PoseWarper:
        return load_checkpoint(self.path)[0]


@dataclass(frozen=True)
class Untrained:
    """One with random weights, brought to where training brings it: unit variances, and offsets of some pixels.

    Args:
        settings: of :func:`posewarper_models.build_posewarper`.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> PoseWarper:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = build_posewarper(**self.settings)
            f_a, f_b = _with_statistics_of(torch.randn(2, 1, 3, *model.image_size), model)
            nn.init.normal_(model.warping.warp.weight, std=model.warping.warp.weight[0, 0].numel() ** -0.5)
            _spread_offsets(model, f_a - f_b)
        return model.eval()


@torch.no_grad()
def _with_statistics_of(frames: Tensor, model: PoseWarper) -> tuple[Tensor, Tensor]:
    """Gives the batch norms the statistics of two frames [2, 1, 3, H, W], and returns their heatmaps.

    As made they would leave HRNet's sums growing from layer to layer.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    f_a, f_b = model.train().heatmaps(frames.flatten(0, 1)).split(1)
    model.warped(f_a, f_b)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return f_a, f_b


@torch.no_grad()
def _spread_offsets(model: PoseWarper, difference: Tensor) -> None:
    """Offset convolutions start as zeros: random ones, with offsets as wide as those of the other benchmarks."""
    warping = model.warping.eval()
    for conv in warping.offset_convs:
        nn.init.normal_(conv.weight)
    for conv, offsets in zip(warping.offset_convs, warping.offsets(difference), strict=True):
        conv.weight.mul_(OFFSET_SIGMA / offsets.std())


def peers(network: Network) -> dict[str, PoseWarper]:
    """The network, and the same with five calls."""
    fused = network.make()
    five = copy.deepcopy(fused)
    five.warping.warp = FiveCalls(fused.warping.warp)  # type: ignore[assignment]
    return {"deformwarp": fused, "torchvision": five}
