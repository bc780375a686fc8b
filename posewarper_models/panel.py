"""What the warping part does to one pair of frames, as a picture: figure 5 of the paper for one's own model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from deformwarp import FusedDeformWarp
from posewarper_models.colour_wheel import coloured, draw_wheel
from posewarper_models.data.annotations import Array
from posewarper_models.data.crops import denormalised
from posewarper_models.draw import OutputError
from posewarper_models.network import PoseWarper
from posewarper_models.skeleton import COLOURS, JOINTS
from posewarper_models.video import Image


@dataclass(frozen=True)
class Warping:
    """A pair of frames on its way through the network. Lengths are heatmap pixels."""

    frame_a: Image  # [H, W, 3], the crop
    frame_b: Image
    heatmap_a: Array  # [J, h, w]
    heatmap_b: Array
    warped: Array  # [J, h, w], B's heatmap warped to A, or what was propagated
    displacement: Array  # [J, 2, h, w], (dy, dx) to where each joint's heatmap is sampled, on average
    magnitude: Array  # [h, w], the mean length of all offsets


@torch.inference_mode()
def look_into(model: PoseWarper, reference: Tensor, support: Tensor) -> Warping:
    """What the network computes for the heatmap of ``reference`` (A) from that of ``support`` (B), [3, H, W] each."""
    f_a, f_b = model.heatmaps(torch.stack([reference, support])).split(1)
    offsets = model.warping.offsets(f_a - f_b)
    warped = model.warping.warp(f_b, offsets)
    return Warping(
        denormalised(reference),
        denormalised(support),
        _array(f_a[0]),
        _array(f_b[0]),
        _array(warped[0]),
        _array(mean_displacement(model.warping.warp, [offset[0] for offset in offsets])),
        _array(mean_magnitude([offset[0] for offset in offsets])),
    )


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().double().numpy()


def mean_displacement(warp: FusedDeformWarp, offsets: Sequence[Tensor]) -> Tensor:
    """From where each channel is sampled: the mean over dilations and taps, by their share of the channel's own weight.

    Args:
        warp: the fused layer; as many output channels as input channels, each with offsets of its own.
        offsets: D tensors [2*K*C, h, w], (dy, dx) interleaved.

    Returns:
        [C, 2, h, w], (dy, dx): where it samples, less where it is.
    """
    channels, taps = warp.channels, warp.weight.shape[3] * warp.weight.shape[4]
    own = warp.weight.diagonal(dim1=1, dim2=2).abs()  # [D, Kh, Kw, C]
    shares = (own / own.sum(dim=(0, 1, 2)).clamp_min(1e-12)).flatten(1, 2)  # [D, K, C]
    reach = [torch.arange(side, device=own.device) - side // 2 for side in warp.weight.shape[3:]]
    grid = torch.stack(torch.meshgrid(*reach, indexing="ij"), dim=-1).flatten(0, 1).to(own)  # [K, 2]
    total = torch.zeros(channels, 2, *offsets[0].shape[1:]).to(offsets[0])
    for share, dilation, offset in zip(shares, warp.dilations, offsets, strict=True):
        step = torch.tensor(dilation).to(grid)
        sampled = offset.view(channels, taps, 2, *offset.shape[1:]) + (grid * step)[None, :, :, None, None]
        total += (share.T[:, :, None, None, None] * sampled).sum(dim=1)
    return total


def mean_magnitude(offsets: Sequence[Tensor]) -> Tensor:
    """The mean length [h, w] of all offsets, D tensors [2*K*C, h, w], as in figure 5."""
    lengths = [offset.unflatten(0, (-1, 2)).norm(dim=1).mean(dim=0) for offset in offsets]
    return torch.stack(lengths).mean(dim=0)


def draw_warping(warping: Warping, path: Path, joints: Sequence[int] = (9, 16)) -> None:
    """A PNG: frames, heatmaps, the warped heatmap, the displacement of some joints on the colour wheel, its magnitude.

    Args:
        warping: of :func:`look_into`.
        path: a new file.
        joints: whose displacement is shown; a wrist and an ankle by default.

    Raises:
        OutputError: the file exists.
    """
    if path.exists():
        raise OutputError(f"{path}: exists already; name a new file")
    fields = warping.displacement[list(joints)]
    longest = max(float(np.quantile(np.hypot(*np.moveaxis(fields, 1, 0)), 0.99)), 1.0)
    pictures = [
        ("frame A", warping.frame_a),
        ("frame B", warping.frame_b),
        ("heatmap of A", with_heatmap(warping.frame_a, warping.heatmap_a)),
        ("heatmap of B", with_heatmap(warping.frame_b, warping.heatmap_b)),
        ("B's heatmap, warped to A", with_heatmap(warping.frame_a, warping.warped)),
        *(
            (f"sampling of {JOINTS[joint]}", coloured(field, longest))
            for joint, field in zip(joints, fields, strict=True)
        ),
    ]
    columns = len(pictures) + 2
    height, width = warping.frame_a.shape[:2]
    figure = Figure(figsize=(2.3 * columns, 2.3 * height / width + 0.6), layout="constrained")
    cells = figure.subplots(1, columns)
    for cell, (title, picture) in zip(cells, pictures, strict=False):
        cell.imshow(picture)
        cell.set_title(title, fontsize=9)
    image = cells[-2].imshow(warping.magnitude, cmap="magma")
    cells[-2].set_title("mean offset, px", fontsize=9)
    figure.colorbar(image, ax=cells[-2], shrink=0.6)
    for cell in cells[:-1]:
        cell.set(xticks=[], yticks=[])
    draw_wheel(cells[-1], longest)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, format="png")


def with_heatmap(image: Image, heatmaps: Array) -> Image:
    """A darkened grey crop [H, W, 3] under heatmaps [J, h, w], every joint in its colour."""
    height, width = image.shape[:2]
    light = np.clip(heatmaps, 0, 1)
    shown = np.einsum("jhw,jc->hwc", light, np.array(COLOURS, float))
    shown /= np.maximum(light.sum(axis=0), 1)[..., None]
    glow = cv2.resize(shown, (width, height), interpolation=cv2.INTER_LINEAR)
    cover = cv2.resize(light.max(axis=0), (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    grey = 0.6 * image.mean(axis=2, keepdims=True)
    return np.asarray(np.clip(grey * (1 - cover) + glow, 0, 255), np.uint8)
