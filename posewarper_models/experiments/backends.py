"""The same training with torchvision's calls and with ours: same seed, same batches, same loss but for rounding."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from deformwarp import FusedDeformWarp
from posewarper_models.experiments.results import Result
from posewarper_models.experiments.tables import Page, table
from posewarper_models.experiments.workspace import Workspace
from posewarper_models.network import PoseWarper
from posewarper_models.train.config import Config
from posewarper_models.train.loader import ResumableLoader
from posewarper_models.train.modules import WarpingTraining
from posewarper_models.train.run import start_model
from posewarper_models.train.samples import training_samples

RUNS = {
    "deformwarp": ("deformwarp, float32", False, torch.float32),
    "torchvision": ("torchvision, float32", True, torch.float32),
    "float64": ("deformwarp, float64", False, torch.float64),
}


class TorchvisionWarp(nn.Module):
    """What users had before: one call of torchvision a dilation, and their sum."""

    def __init__(self, warp: FusedDeformWarp) -> None:
        super().__init__()
        self.weight = warp.weight
        self.dilations, self.scale = warp.dilations, warp.scale
        self.channels, self.out_channels = warp.channels, warp.out_channels

    def forward(self, input: Tensor, offsets: Sequence[Tensor]) -> Tensor:
        """The warped heatmap [N, J, h, w] of ``input`` [N, J, h, w] by D offsets [N, 18 J, h, w]."""
        calls = zip(offsets, self.weight, self.dilations, strict=True)
        branches = (deform_conv2d(input, offset, weight, padding=d, dilation=d) for offset, weight, d in calls)
        warped: Tensor = functools.reduce(operator.add, branches) * self.scale
        return warped


def measure(space: Workspace) -> dict[str, Any]:
    """The loss of every step of three runs of stage 2."""
    space.heatmap_network()
    config = space.study.stage("warping", space.study.warping, space.seed)
    return {name: _losses(space, config, theirs, dtype) for name, (_, theirs, dtype) in RUNS.items()}


def _losses(space: Workspace, config: Config, theirs: bool, dtype: torch.dtype) -> list[float]:
    model = start_model(config, space.own / "heatmaps" / "model.pt")
    assert isinstance(model, PoseWarper)
    if theirs:
        model.warping.warp = TorchvisionWarp(model.warping.warp)  # type: ignore[assignment]
    module = WarpingTraining(model.to(space.device, dtype), config).train()
    optimizer = torch.optim.Adam(model.warping.parameters(), config.schedule.learning_rate)
    samples = training_samples(space.sparse(), config)
    loader = ResumableLoader(samples, batch_size=config.schedule.batch_size, seed=config.seed)
    losses: list[float] = []
    while len(losses) < space.study.equality_steps:
        for batch in loader:
            tensors = {
                name: batch[name].to(space.device, dtype) for name in ("reference", "support", "target", "weight")
            }
            loss = module.loss(tensors)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == space.study.equality_steps:
                break
    return losses


def section(results: Sequence[Result], page: Page) -> str:
    """Markdown of all seeds, with a figure."""
    rows = []
    for result in results:
        curves = {name: np.array(losses) for name, losses in result.measured.items()}
        exact = curves.pop("float64")
        gaps = [f"{np.abs(curve / exact - 1).max():.1e}" for curve in curves.values()]
        between = np.abs(curves["deformwarp"] / curves["torchvision"] - 1).max()
        rows.append([str(result.seed), str(len(exact)), f"{between:.1e}", *gaps, f"{exact[-1]:.3e}"])
    header = ["seed", "steps", "ours - torchvision", "ours - float64", "torchvision - float64", "last loss"]
    text = (
        "Largest relative difference of the loss at any step. Runs that start alike drift apart by rounding, which "
        "training amplifies; float64 shows how far rounding alone takes float32."
    )
    figure = page.shown(_figure(results[0]), "backends", "Loss curves, and their differences")
    return "\n\n".join([figure, text, table(header, rows)])


def _figure(result: Result) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    exact = np.array(result.measured["float64"])
    for name, (label, _, _) in RUNS.items():
        losses = np.array(result.measured[name])
        left.plot(losses, label=label, linestyle="-" if name == "float64" else "--")
        if name != "float64":
            right.semilogy(np.abs(losses / exact - 1) + 1e-17, label=label)
    left.set(xlabel="step", ylabel="loss")
    right.set(xlabel="step", ylabel="relative difference from float64")
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    return figure
