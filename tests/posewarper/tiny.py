"""A PoseWarper small enough for tests."""

from __future__ import annotations

import torch
from torch import nn

TINY = {"num_blocks": 2, "channels": 8, "dilations": (1, 2, 3)}


class TinyBackbone(nn.Module):
    """Images to heatmaps of a quarter of their size, with a batch norm."""

    def __init__(self, num_joints: int = 17) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, num_joints, 1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)
