"""Training data in memory: what a data set of pairs gives, without videos."""

from __future__ import annotations

from typing import Any

import cv2
import torch
from torch import Tensor
from torch.utils.data import Dataset

from posewarper_models.heatmaps import encode


class BlobPairs(Dataset[dict[str, Any]]):
    """Each joint is a bright blob that moves from frame to frame, drawn by PyTorch's generator."""

    def __init__(self, length: int = 12, joints: int = 17, size: tuple[int, int] = (64, 64), broken: int = -1) -> None:
        self.length, self.joints, self.size, self.broken = length, joints, size, broken

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        random = torch.rand(2, self.joints, 2)
        heat = (self.size[0] // 4, self.size[1] // 4)
        a = random[0] * (heat[0] - 1)
        b = a + 2 * random[1] - 1
        weight = torch.ones(self.joints, 1, 1)
        target = encode(a, torch.ones(self.joints), heat, 1.0)
        reference = self.picture(a)
        if index == self.broken:
            reference[0, 0, 0] = float("nan")
        return {
            "image": reference,
            "reference": reference,
            "support": self.picture(b),
            "target": target,
            "weight": weight,
            "delta": 1,
            "clip": f"clip{index}",
            "frame": index,
            "person": 0,
        }

    def picture(self, joints: Tensor) -> Tensor:
        """[3, h, w], every joint's blob in one of three colours."""
        blobs = encode(joints * 4, torch.ones(self.joints), self.size, 3.0)
        return torch.stack([blobs[colour::3].sum(0) for colour in range(3)])


class BlurredBlobs(BlobPairs):
    """OpenCV computes them, with its threads."""

    def picture(self, joints: Tensor) -> Tensor:
        return torch.from_numpy(cv2.GaussianBlur(super().picture(joints).numpy(), (5, 5), 1.0))
