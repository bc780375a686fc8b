"""Heatmap networks: images [N, 3, H, W] -> heatmaps [N, J, H/4, W/4]."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 4  # image pixels per heatmap pixel, of every network here


class HighResolutionHeatmaps(nn.Module):
    """HRNet for poses (Sun et al., CVPR 2019; arXiv 1902.09212): timm's features, cut to the branch that is used.

    Args:
        name: timm's, such as ``"hrnet_w48"``.
        num_joints: J.
        pretrained: whether timm fetches its ImageNet weights.
    """

    def __init__(self, name: str, num_joints: int, pretrained: bool = False, **settings: Any) -> None:
        super().__init__()
        import timm

        features: Any = timm.create_model(
            name, features_only=True, feature_location="", pretrained=pretrained, **settings
        )
        # Only the finest of the four resolutions is read, so the others need not be computed. What is left has the
        # very keys of the authors' network.
        last = features.stage4[-1]
        last.fuse_layers = last.fuse_layers[:1]
        self.features = features
        self.final_layer = nn.Conv2d(features.feature_info.channels()[1], num_joints, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        finest: Tensor = self.features(images)[-1]
        heatmaps: Tensor = self.final_layer(finest)
        return heatmaps


class PyramidHeatmaps(nn.Module):
    """Any of timm's feature networks under a feature pyramid (Lin et al., CVPR 2017; arXiv 1612.03144).

    Every map that timm gives at stride 4 or coarser is brought to ``width`` channels by a 1x1 convolution; each is
    added to the next finer one; a 3x3 convolution and a 1x1 convolution make heatmaps of the finest.

    Args:
        name: timm's, such as ``"resnet18"``.
        num_joints: J.
        pretrained: whether timm fetches its ImageNet weights.
        width: channels of the pyramid.
        settings: passed on to timm, such as ResNet's ``channels=(32, 64, 96, 128)``.

    Raises:
        ValueError: the network has no features at stride 4.
    """

    def __init__(self, name: str, num_joints: int, pretrained: bool = False, width: int = 128, **settings: Any) -> None:
        super().__init__()
        import timm

        features: Any = timm.create_model(name, features_only=True, pretrained=pretrained, **settings)
        self.features = features
        strides, channels = features.feature_info.reduction(), features.feature_info.channels()
        self.used = [index for index, stride in enumerate(strides) if stride >= STRIDE]
        if not self.used or strides[self.used[0]] != STRIDE:
            raise ValueError(f"backbone: {name} has features at strides {strides}, but should have some at {STRIDE}")
        self.lateral = nn.ModuleList(nn.Conv2d(channels[index], width, kernel_size=1) for index in self.used)
        self.smooth = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.final_layer = nn.Conv2d(width, num_joints, kernel_size=1)
        # Training on a CPU takes two thirds of the time so, and every convolution hands its layout on.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        maps = [lateral(features[index]) for lateral, index in zip(self.lateral, self.used, strict=True)]
        finest = maps.pop()
        while maps:
            finer = maps.pop()
            finest = finer + F.interpolate(finest, size=finer.shape[-2:], mode="nearest")
        heatmaps: Tensor = self.final_layer(self.smooth(finest))
        return heatmaps.contiguous()


def build_backbone(
    backbone: str | nn.Module, num_joints: int, *, pretrained: bool = False, settings: Mapping[str, Any] | None = None
) -> nn.Module:
    """A network from images to heatmaps.

    Args:
        backbone: a timm name (``"hrnet_w48"`` is the paper's; any other with features at stride 4 gets a feature
            pyramid), or a module that maps images [N, 3, H, W] to heatmaps [N, J, h, w], which is used as it is.
        num_joints: J.
        pretrained: whether timm fetches weights trained on ImageNet; needs a network connection.
        settings: further arguments of :class:`posewarper_models.backbones.HighResolutionHeatmaps` or
            :class:`posewarper_models.backbones.PyramidHeatmaps`.

    Raises:
        ValueError: timm does not know the name, or it has no features at stride 4.

    >>> import torch
    >>> build_backbone("resnet10t", 17, settings={"width": 32})(torch.zeros(1, 3, 64, 96)).shape
    torch.Size([1, 17, 16, 24])
    """
    if isinstance(backbone, nn.Module):
        return backbone
    import timm

    if not timm.is_model(backbone):
        similar = ", ".join(get_close_matches(backbone, timm.list_models())) or "none"
        raise ValueError(f"backbone: timm does not know {backbone!r}; similar names: {similar}")
    kind = HighResolutionHeatmaps if backbone.startswith("hrnet_") else PyramidHeatmaps
    network: nn.Module = kind(backbone, num_joints, pretrained=pretrained, **(settings or {}))
    return network
