"""The networks that are measured, each with the fused layer and with the calls that it replaces."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmarks.workloads import OFFSET_SIGMA
from posewarper_models.checkpoints import load_checkpoint
from posewarper_models.experiments.backends import TorchvisionWarp
from posewarper_models.network import PoseWarper, build_posewarper


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
    five.warping.warp = TorchvisionWarp(five.warping.warp)  # type: ignore[assignment]
    return {"deformwarp": fused, "torchvision": five}
