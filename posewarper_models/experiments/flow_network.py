"""A small learned optical flow: a feature pyramid, cost volumes and one decoder for all levels.

The scheme is PWC-Net's (Sun et al., CVPR 2018; arXiv 1709.02371), with a decoder that all levels share (Hur and Roth,
CVPR 2019; arXiv 1904.05290). It learns without labels, as UnFlow does (Meister et al., AAAI 2018; arXiv 1711.07837):
the second frame, warped by the flow, should look like the first by the census transform, but where the flow there and
the flow back say that something is hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewarper_models.flow import Field
from posewarper_models.video import Image

FINEST = 2  # levels below this one are not decoded: the flow is found at a quarter of the resolution
CENSUS_WINDOW = 7  # pixels
SMOOTHNESS = 0.04  # weight of the flow's roughness, pixels
EDGES = 150.0  # how much less the flow needs to be smooth where the image is not
HIDDEN_SHARE, HIDDEN_PIXELS = 0.01, 0.5  # UnFlow's bound for flows there and back that do not cancel
HIDDEN_COST = 12.0 / 255  # so that not everything is called hidden


class FlowNetwork(nn.Module):
    """Optical flow between two frames.

    Args:
        channels: of the pyramid's levels, from half the resolution down.
        reach: of the cost volume in pixels of a level.
        width: of the decoder.

    >>> FlowNetwork(channels=(8, 8, 8), reach=2, width=8)(*torch.rand(2, 1, 3, 40, 56)).shape
    torch.Size([1, 2, 40, 56])
    """

    def __init__(self, channels: Sequence[int] = (16, 32, 48, 64, 80), reach: int = 4, width: int = 64) -> None:
        super().__init__()
        self.reach = reach
        inputs = (3, *channels)
        self.pyramid = nn.ModuleList(
            nn.Sequential(*_layer(before, after, stride=2), *_layer(after, after))
            for before, after in zip(inputs, channels, strict=False)
        )
        decoded = channels[FINEST - 1 :]
        self.lateral = nn.ModuleList(nn.Conv2d(count, width // 2, kernel_size=1) for count in decoded)
        self.decoder = nn.Sequential(
            *_layer((2 * reach + 1) ** 2 + width // 2 + 2, width),
            *_layer(width, width),
            *_layer(width, width // 2),
            nn.Conv2d(width // 2, 2, kernel_size=3, padding=1),
        )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The flow [N, 2, H, W], (dx, dy) in pixels from the first to the second frame.

        Args:
            first: RGB, 0 to 1, [N, 3, H, W].
            second: likewise.
        """
        height, width = first.shape[-2:]
        step = 2 ** len(self.pyramid)
        padding = (0, -width % step, 0, -height % step)
        features = [self._features(F.pad(frames, padding, mode="replicate")) for frames in (first, second)]
        flow = torch.zeros_like(features[0][-1][:, :2])
        for level in reversed(range(len(self.lateral))):
            ours, theirs = features[0][level], features[1][level]
            flow = resized(flow, ours.shape[-2:])
            volume = F.leaky_relu(cost_volume(ours, warped(theirs, flow), self.reach), 0.1)
            flow = flow + self.decoder(torch.cat([volume, self.lateral[level](ours), flow], dim=1))
        padded = (height + padding[3], width + padding[1])
        return resized(flow, padded)[..., :height, :width]

    def _features(self, frames: Tensor) -> list[Tensor]:
        """Of the levels that are decoded, the finest first."""
        found, last = [], frames - 0.5
        for level in self.pyramid:
            last = level(last)
            found.append(last)
        return found[FINEST - 1 :]


def _layer(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1), nn.LeakyReLU(0.1)]


def resized(flow: Tensor, size: Sequence[int]) -> Tensor:
    """A flow [N, 2, h, w] at another size [H, W], its vectors scaled alike."""
    factors = torch.tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]], device=flow.device, dtype=flow.dtype)
    larger = F.interpolate(flow, size=tuple(size), mode="bilinear", align_corners=False)
    return larger * factors.view(1, 2, 1, 1)


def warped(frames: Tensor, flow: Tensor) -> Tensor:
    """Frames [N, C, H, W] sampled where the flow [N, 2, H, W] points; 0 outside."""
    height, width = frames.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype) + flow[:, 0]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + flow[:, 1]
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    return F.grid_sample(frames, grid, align_corners=True)


def cost_volume(ours: Tensor, theirs: Tensor, reach: int) -> Tensor:
    """How alike features [N, C, H, W] are to those up to ``reach`` pixels away: [N, (2 reach + 1)^2, H, W]."""
    height, width = ours.shape[-2:]
    around = F.pad(theirs, (reach,) * 4)
    moved = (
        around[..., dy : dy + height, dx : dx + width] for dy in range(2 * reach + 1) for dx in range(2 * reach + 1)
    )
    return torch.stack([(ours * other).mean(dim=1) for other in moved], dim=1)


def unsupervised_loss(network: FlowNetwork, first: Tensor, second: Tensor) -> Tensor:
    """How badly the network's flow, both ways, explains two batches of frames [N, 3, H, W]."""
    there, back = network(first, second), network(second, first)
    return _one_way(first, second, there, back) + _one_way(second, first, back, there)


def _one_way(first: Tensor, second: Tensor, flow: Tensor, other: Tensor) -> Tensor:
    seen = _not_hidden(flow.detach(), other.detach())
    difference = census_distance(first, warped(second, flow))
    photometric = (difference * seen + HIDDEN_COST * (1 - seen)).mean()
    return photometric + SMOOTHNESS * _roughness(flow, first)


def _not_hidden(flow: Tensor, other: Tensor) -> Tensor:
    """[N, 1, H, W], 0 where the flow leaves the frame or the way back does not lead back."""
    back = warped(other, flow)
    inside = warped(torch.ones_like(flow[:, :1]), flow) > 0.99
    gap = (flow + back).square().sum(dim=1, keepdim=True)
    lengths = (flow.square() + back.square()).sum(dim=1, keepdim=True)
    return (inside & (gap < HIDDEN_SHARE * lengths + HIDDEN_PIXELS)).to(flow)


def census_distance(first: Tensor, second: Tensor) -> Tensor:
    """[N, 1, H, W], 0 to 1: the share of neighbours that are brighter or darker otherwise; differentiable.

    >>> image = torch.rand(1, 3, 16, 16)
    >>> census_distance(image, 0.5 * image + 0.2).max() < census_distance(image, image.flip(-1)).mean()
    tensor(True)
    """
    gap = (_census(first) - _census(second)).square()
    return (gap / (0.1 + gap)).mean(dim=1, keepdim=True)


def _census(frames: Tensor) -> Tensor:
    """[N, 49, H, W], each neighbour's brightness against the pixel's, softly -1 to 1."""
    grey = 255 * frames.mean(dim=1, keepdim=True)
    reach = CENSUS_WINDOW // 2
    height, width = grey.shape[-2:]
    around = F.pad(grey, (reach,) * 4, mode="replicate")
    steps = range(CENSUS_WINDOW)
    neighbours = torch.cat([around[..., dy : dy + height, dx : dx + width] for dy in steps for dx in steps], dim=1)
    difference = neighbours - grey
    return difference / torch.sqrt(0.81 + difference.square())


def _roughness(flow: Tensor, frames: Tensor) -> Tensor:
    """The mean step of the flow between neighbours, where the image has no edge."""
    total = torch.zeros((), device=flow.device, dtype=flow.dtype)
    for axis in (-1, -2):
        edges = frames.diff(dim=axis).square().mean(dim=1, keepdim=True)
        total = total + (torch.exp(-EDGES * edges) * (flow.diff(dim=axis).square() + 1e-6).sqrt()).mean()
    return total


class LearnedFlow:
    """The network as :data:`posewarper_models.flow.Flow`, in evaluation mode wherever its weights are."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()
        self.device = next(network.parameters()).device

    @torch.inference_mode()
    def __call__(self, first: Image, second: Image) -> Field:
        """The flow [H, W, 2] from the first to the second frame."""
        pair = [
            torch.from_numpy(image).permute(2, 0, 1)[None].float().to(self.device) / 255 for image in (first, second)
        ]
        flow = self.network(*pair)[0].permute(1, 2, 0)
        return np.ascontiguousarray(flow.float().cpu().numpy())


def random_crop(images: Sequence[Image], size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """The same part of frames [H, W, 3], mirrored or not: [len(images), 3, h, w], 0 to 1; small frames are enlarged."""
    height, width = images[0].shape[:2]
    zoom = max(size[0] / height, size[1] / width, 1.0)
    if zoom > 1:
        images = [np.asarray(cv2.resize(image, None, fx=zoom, fy=zoom), np.uint8) for image in images]
        height, width = images[0].shape[:2]
    top, left = rng.integers(height - size[0] + 1), rng.integers(width - size[1] + 1)
    step = -1 if rng.random() < 0.5 else 1
    parts = np.stack([image[top : top + size[0], left : left + size[1]][:, ::step] for image in images])
    return torch.from_numpy(np.ascontiguousarray(parts)).permute(0, 3, 1, 2).float() / 255
