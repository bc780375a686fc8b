"""A stand-in for MMPose's neck, which is not installed: its names, attributes and way of summing."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import Tensor, nn


class PoseWarperNeck(nn.Module):
    def __init__(self, dilations: tuple[int, ...] = (1, 2, 3)) -> None:
        super().__init__()
        self.num_offset_layers = len(dilations)
        self.trans_layer = nn.Conv2d(3, 4, 1)
        self.offset_feats = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU())
        self.offset_layers = nn.ModuleList(nn.Conv2d(6, 72, 3, padding=d, dilation=d, bias=False) for d in dilations)
        self.deform_conv_layers = nn.ModuleList(
            torchvision.ops.DeformConv2d(4, 4, 3, padding=d, dilation=d, bias=False) for d in dilations
        )

    def forward(self, inputs: Any, frame_weight: Any) -> Tensor:
        assert isinstance(inputs, (list, tuple))
        frames = [self.trans_layer(one) for one in inputs]
        total: Any = 0
        for frame, share in zip(frames, frame_weight, strict=True):
            if share == 0:
                continue
            features, warped = self.offset_feats(frames[0] - frame), 0
            for j in range(self.num_offset_layers):
                warped += self.deform_conv_layers[j](frame, self.offset_layers[j](features)) / self.num_offset_layers
            total += warped * share
        return total


PoseWarperNeck.__module__ = "mmpose.models.necks.posewarper_neck"
