"""A small learned optical flow: a feature pyramid, cost volumes and one decoder for all levels.

The scheme is PWC-Net's (Sun et al., CVPR 2018; arXiv 1709.02371), with a decoder that all levels share (Hur and Roth,
CVPR 2019; arXiv 1904.05290) and features that are standardised before they are compared (UFlow: Jonschkowski et al.,
ECCV 2020; arXiv 2006.04902). It learns without labels: see :mod:`posewarper_models.experiments.flow_losses`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewarper_models.flow import Field
from posewarper_models.video import Image

SLOPE = 0.1  # of the leaky rectifiers
FINEST = 2  # levels below this one are not decoded: the flow is found at a quarter of the resolution


class FlowNetwork(nn.Module):
    """Optical flow between two frames.

    Args:
        channels: of the pyramid's levels, from half the resolution down.
        reach: of the cost volume in pixels of a level.
        width: of the decoder.

    >>> FlowNetwork(channels=(8, 8, 8), reach=2, width=8)(*torch.rand(2, 1, 3, 40, 56)).shape
    torch.Size([1, 2, 40, 56])
    """

    def __init__(self, channels: Sequence[int] = (16, 32, 48, 64), reach: int = 4, width: int = 64) -> None:
        super().__init__()
        self.reach = reach
        inputs = (3, *channels)
        self.pyramid = nn.ModuleList(
            nn.Sequential(*_layer(before, after, stride=2), *_layer(after, after))
            for before, after in zip(inputs, channels, strict=False)
        )
        decoded = channels[FINEST - 1 :]
        self.lateral = nn.ModuleList(nn.Conv2d(count, width // 2, kernel_size=1) for count in decoded)
        last = nn.Conv2d(width // 2, 2, kernel_size=3, padding=1)
        self.decoder = nn.Sequential(
            *_layer((2 * reach + 1) ** 2 + width // 2 + 2, width),
            *_layer(width, width),
            *_layer(width, width // 2),
            last,
        )
        for name, parameter in self.named_parameters():  # He's initialisation, which keeps the features' size
            if name.endswith("weight"):
                nn.init.kaiming_normal_(parameter, SLOPE)
            else:
                nn.init.zeros_(parameter)
        nn.init.normal_(last.weight, std=1e-3)  # a fresh network says that nothing moves: no random flow is a start

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The flow [N, 2, H, W], (dx, dy) in pixels from the first to the second frame.

        Args:
            first: RGB, 0 to 1, [N, 3, H, W].
            second: likewise.
        """
        return self.by_level(first, second)[-1]

    def by_level(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """The flows of the levels, the coarsest first, each [N, 2, h, w] in its own pixels; the last is the frames'."""
        height, width = first.shape[-2:]
        step = 2 ** len(self.pyramid)
        padding = (0, -width % step, 0, -height % step)
        features = [self._features(F.pad(frames, padding, mode="replicate")) for frames in (first, second)]
        flow = torch.zeros_like(features[0][-1][:, :2])
        found = []
        for level in reversed(range(len(self.lateral))):
            ours, theirs = features[0][level], features[1][level]
            flow = resized(flow, ours.shape[-2:])
            volume = F.leaky_relu(cost_volume(ours, warped(theirs, flow), self.reach), SLOPE)
            flow = flow + self.decoder(torch.cat([volume, self.lateral[level](ours), flow], dim=1))
            found.append(flow)
        padded = (height + padding[3], width + padding[1])
        return [*found, resized(flow, padded)[..., :height, :width]]

    def _features(self, frames: Tensor) -> list[Tensor]:
        """Of the levels that are decoded, the finest first."""
        found, last = [], frames - 0.5
        for level in self.pyramid:
            last = level(last)
            found.append(standardised(last))
        return found[FINEST - 1 :]


def _layer(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1), nn.LeakyReLU(SLOPE)]


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


def standardised(features: Tensor) -> Tensor:
    """Features [N, C, H, W], each channel with mean 0 and deviation 1: what all places share says nothing of motion."""
    mean = features.mean(dim=(2, 3), keepdim=True)
    return (features - mean) / (features.std(dim=(2, 3), keepdim=True) + 1e-6)


def cost_volume(ours: Tensor, theirs: Tensor, reach: int) -> Tensor:
    """How alike features [N, C, H, W] are to those up to ``reach`` pixels away: [N, (2 reach + 1)^2, H, W]."""
    height, width = ours.shape[-2:]
    around = F.pad(theirs, (reach,) * 4)
    moved = (
        around[..., dy : dy + height, dx : dx + width] for dy in range(2 * reach + 1) for dx in range(2 * reach + 1)
    )
    return torch.stack([(ours * other).mean(dim=1) for other in moved], dim=1)


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
