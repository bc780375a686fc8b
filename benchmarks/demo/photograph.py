"""The layer at work: it learns to warp a photograph back from where a known motion moved it.

Frame B is frame A, moved. A small network sees A, B and their difference and predicts the offsets; the fused layer
samples B with them. Both learn from nothing but the difference between the result and A.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from torch import Tensor, nn

from deformwarp import FusedDeformWarp
from posewarper_models.colour_wheel import coloured, draw_wheel

DILATIONS = (1, 2, 3, 4, 6)
COARSEST_BLUR = 4.0  # pixels, sigma; as wide as the motion, so that the loss sees where to go


@dataclass(frozen=True)
class Settings:
    """What is learnt from, and for how long."""

    height: int = 96
    width: int = 128
    steps: int = 300
    learning_rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class Motion:
    """A rotation and a zoom about the centre, and a swirl that fades away from it."""

    rotation: float = 3.0  # degrees
    zoom: float = 1.04
    swirl: float = 9.0  # degrees at the centre
    reach: float = 0.28  # of the swirl, as a share of the width

    def displacement(self, points: Tensor, height: int, width: int) -> Tensor:
        """(dy, dx) in pixels of points [2, H, W], also (y, x)."""
        centre = torch.tensor([(height - 1) / 2, (width - 1) / 2]).view(2, 1, 1)
        y, x = points - centre
        fade = torch.exp(-(y**2 + x**2) / (2 * (self.reach * width) ** 2))
        angle = torch.deg2rad(self.rotation + self.swirl * fade)
        turned = torch.stack([y * angle.cos() + x * angle.sin(), x * angle.cos() - y * angle.sin()])
        return self.zoom * turned + centre - points


@dataclass(frozen=True)
class Pair:
    """Two frames [1, 3, H, W], and where in B every pixel of A is."""

    a: Tensor
    b: Tensor
    motion: Tensor  # [2, H, W], (dy, dx) in pixels
    visible: Tensor  # [H, W], whether B shows the pixel at all


@dataclass(frozen=True)
class Outcome:
    """What was learnt."""

    warped: Tensor  # [1, 3, H, W]
    displacement: Tensor  # [2, H, W], the mean over the layer's taps, weighted by what they contribute
    rmse_before: float
    rmse_after: float
    end_point_error: float  # pixels, where B shows the pixel

    @property
    def psnr_before(self) -> float:
        return -20 * float(np.log10(self.rmse_before))

    @property
    def psnr_after(self) -> float:
        return -20 * float(np.log10(self.rmse_after))


def pixels(height: int, width: int) -> Tensor:
    """(y, x) of every pixel: [2, H, W]."""
    return torch.stack(torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij"))


def sampled(image: Tensor, points: Tensor) -> Tensor:
    """Image [1, C, H, W] at points [2, h, w], (y, x) in its pixels."""
    height, width = image.shape[2:]
    y, x = points
    grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1)
    return F.grid_sample(image, grid[None], mode="bicubic", align_corners=True).clamp(0, 1)


def photograph(height: int, width: int, margin: int) -> Tensor:
    """Chelsea the cat (skimage, CC0) [1, 3, height + 2 margin, width + 2 margin]; it ships with scikit-image."""
    from skimage import data

    image = torch.tensor(np.asarray(data.cat())).permute(2, 0, 1)[None].float() / 255
    full = (height + 2 * margin, width + 2 * margin)
    scale = max(full[0] / image.shape[2], full[1] / image.shape[3])
    size = [max(side, round(scale * whole)) for side, whole in zip(full, image.shape[2:], strict=True)]
    image = F.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = (size[0] - full[0]) // 2, (size[1] - full[1]) // 2
    return image[:, :, top : top + full[0], left : left + full[1]]


def make_pair(settings: Settings, motion: Motion | None = None) -> Pair:
    """Frame A is cut from the photograph, frame B from the same photograph as the motion moves it."""
    motion = motion or Motion()
    height, width = settings.height, settings.width
    margin = width // 8
    photo, grid = photograph(height, width, margin), pixels(height, width)
    origin = grid
    for _ in range(60):  # where does a pixel of B come from? a fixed point, as the motion is smooth
        origin = grid - motion.displacement(origin, height, width)
    displacement = motion.displacement(grid, height, width)
    y, x = grid + displacement
    visible = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
    return Pair(sampled(photo, grid + margin), sampled(photo, origin + margin), displacement, visible)


class OffsetNetwork(nn.Module):
    """A, B, their difference and the pixels' coordinates -> the offsets of every dilation, at first zero.

    It works at an eighth of the resolution, which is what makes the offsets smooth.
    """

    def __init__(self, offset_channels: int, branches: int, features: int = 32) -> None:
        super().__init__()
        widths = [11, features, features, features]
        self.down = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.GroupNorm(4, wide), nn.ReLU())
                for narrow, wide in pairwise(widths)
            )
        )
        self.context = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(features, features, 3, padding=d, dilation=d), nn.ReLU()) for d in (1, 2, 4))
        )
        self.offsets = nn.ModuleList(nn.Conv2d(features, offset_channels, 3, padding=1) for _ in range(branches))
        for parameter in self.offsets.parameters():
            nn.init.zeros_(parameter)

    def forward(self, a: Tensor, b: Tensor) -> list[Tensor]:
        size = a.shape[2:]
        coordinates = torch.stack(
            torch.meshgrid(*(torch.linspace(-1, 1, side, device=a.device) for side in size), indexing="ij")
        )
        features = self.down(torch.cat([a, b, a - b, coordinates.expand(a.shape[0], -1, -1, -1)], dim=1))
        features = features + self.context(features)
        return [F.interpolate(conv(features), size, mode="bilinear", align_corners=False) for conv in self.offsets]


class Aligner(nn.Module):
    """The offset network and the fused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.warp = FusedDeformWarp(3, dilations=DILATIONS, offset_groups=1, scale=1 / len(DILATIONS))
        self.offsets = OffsetNetwork(self.warp.offset_channels, len(DILATIONS))

    def forward(self, image: Tensor, offsets: list[Tensor]) -> Tensor:
        warped: Tensor = self.warp(image, offsets)
        return warped

    def displacement(self, offsets: list[Tensor]) -> Tensor:
        """[2, H, W] from where the layer samples on average: each tap by its position and its share of the weight."""
        shares = self.warp.weight.diagonal(dim1=1, dim2=2).mean(-1).reshape(len(DILATIONS), 9)  # [D, K]
        taps = torch.stack(torch.meshgrid(torch.arange(-1.0, 2), torch.arange(-1.0, 2), indexing="ij"), -1)
        total = torch.zeros_like(offsets[0][0, :2])
        for dilation, offset, share in zip(DILATIONS, offsets, shares, strict=True):
            positions = dilation * taps.reshape(9, 2, 1, 1) + offset[0].reshape(9, 2, *offset.shape[2:])
            total += (share.view(9, 1, 1, 1) * positions).sum(0)
        return (total / shares.sum()).detach()


def blurred(image: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur that repeats the border."""
    if sigma < 0.3:
        return image
    reach = round(3 * sigma)
    line = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    line = (line / line.sum()).expand(image.shape[1], 1, 1, -1)
    image = F.pad(image, (reach, reach, reach, reach), mode="replicate")
    image = F.conv2d(image, line, groups=image.shape[1])
    return F.conv2d(image, line.transpose(2, 3), groups=image.shape[1])


def rmse(image: Tensor, target: Tensor, where: Tensor) -> float:
    """Root mean square difference of two images in [0, 1] where a mask [H, W] says so."""
    return float((image - target)[:, :, where].square().mean().sqrt())


def learn(pair: Pair, settings: Settings, on_step: Callable[[int, float], None] = lambda step, loss: None) -> Outcome:
    """Optimises offset network and layer on one pair of frames."""
    torch.manual_seed(settings.seed)
    model = Aligner()
    optimiser = torch.optim.Adam(model.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    for step in range(settings.steps):
        sigma = COARSEST_BLUR * max(0.0, 1 - 2 * step / settings.steps)
        offsets = model.offsets(pair.a, pair.b)
        difference = model(blurred(pair.b, sigma), offsets) - blurred(pair.a, sigma)
        loss = (difference.square() + 1e-6).sqrt().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        on_step(step, loss.item())
    with torch.no_grad():
        offsets = model.offsets(pair.a, pair.b)
        warped, displacement = model(pair.b, offsets), model.displacement(offsets)
    error = (displacement - pair.motion).norm(dim=0)[pair.visible].mean()
    before, after = rmse(pair.b, pair.a, pair.visible), rmse(warped, pair.a, pair.visible)
    return Outcome(warped, displacement, before, after, float(error))


def _shown(image: Tensor) -> np.ndarray:
    return image[0].clamp(0, 1).permute(1, 2, 0).numpy()


def draw(pair: Pair, outcome: Outcome, path: Path) -> None:
    """The frames, the differences, and the motion beside what was learnt."""
    longest = float(pair.motion.norm(dim=0).max().ceil())
    before, after = ((image - pair.a).abs().mean(1)[0].numpy() for image in (pair.b, outcome.warped))
    brightest = float(np.quantile(before, 0.995))
    figure, axes = plt.subplots(2, 4, figsize=(15, 6.6), layout="constrained")
    pictures: tuple[tuple[str, np.ndarray, dict[str, Any]], ...] = (
        ("A", _shown(pair.a), {}),
        ("B: A after the motion", _shown(pair.b), {}),
        ("B, warped back by the fused layer", _shown(outcome.warped), {}),
        (f"|B - A|, RMSE {outcome.rmse_before:.3f}", before, {"cmap": "magma", "vmin": 0, "vmax": brightest}),
        (f"|warped B - A|, RMSE {outcome.rmse_after:.3f}", after, {"cmap": "magma", "vmin": 0, "vmax": brightest}),
        ("true motion from A to B", coloured(pair.motion.double().numpy(), longest), {}),
        (
            f"learned offsets, {outcome.end_point_error:.2f} px off on average",
            coloured(outcome.displacement.double().numpy(), longest),
            {},
        ),
    )
    cells = [axes[0, 0], axes[0, 1], axes[0, 2], axes[1, 0], axes[1, 1], axes[1, 2], axes[1, 3]]
    for cell, (title, picture, options) in zip(cells, pictures, strict=True):
        cell.imshow(picture, **options)
        cell.set_title(title, fontsize=12)
        cell.set(xticks=[], yticks=[])
    for cell in axes[1]:
        cell.contour(pair.visible.numpy(), [0.5], colors="grey", linewidths=0.8)
    figure.supxlabel(
        "outside the grey line B does not show what A does: nothing to learn from, and not counted", fontsize=11
    )
    draw_wheel(axes[0, 3], longest)
    axes[0, 3].set_title("colour of a displacement", fontsize=12)
    figure.savefig(path, dpi=110)
    plt.close(figure)
