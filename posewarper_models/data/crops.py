"""Person crops: an affine map from the frame to the network's input, the same for every frame of a sample.

Coordinates are (x, y) with (0, 0) at the centre of the first pixel, in frame, crop and heatmap alike. Heatmaps have a
:data:`STRIDE` of 4: their pixel i lies at pixel 4 i of the crop, where two strided convolutions put it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from posewarper_models.data.annotations import AnnotationError, Array, Box, Person
from posewarper_models.skeleton import LOWER_BODY, MIRRORED, UPPER_BODY
from posewarper_models.video import Image

STRIDE = 4
# What the authors' code adds around a person's box, and around the joints of half a body.
BOX_PADDING, HALF_BODY_PADDING = 1.25, 1.5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB


@dataclass(frozen=True)
class Crop:
    """A map from the frame to the crop, and back.

    >>> crop = crop_around((10, 20, 30, 40), size=(128, 96))
    >>> crop.size, crop.from_frame(np.array([[25.0, 40.0]])).tolist()
    ((128, 96), [[48.0, 64.0]])
    """

    matrix: Array  # [2, 3], (x, y, 1) in the frame -> (x, y) in the crop
    size: tuple[int, int]  # height, width
    mirrored: bool = False

    def pixels(self, frame: Image) -> Image:
        """The crop [h, w, 3] of a frame [H, W, 3]; black outside it."""
        height, width = self.size
        return np.asarray(cv2.warpAffine(frame, self.matrix, (width, height), flags=cv2.INTER_LINEAR), np.uint8)

    def image(self, frame: Image) -> Tensor:
        """The crop as the network takes it: float32 [3, h, w], RGB, normalised by ImageNet's mean and deviation."""
        return normalised(self.pixels(frame))

    def from_frame(self, points: Array) -> Array:
        """Points [..., 2] of the frame in the crop."""
        return np.asarray(points @ self.matrix[:, :2].T + self.matrix[:, 2])

    def to_frame(self, points: Array) -> Array:
        """Points [..., 2] of the crop in the frame."""
        return np.asarray((points - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T)

    def keypoints_from_frame(self, keypoints: Array) -> Array:
        """Joints [J, 2 or more] in the crop: positions move, left and right change places in a mirrored one."""
        moved = np.concatenate([self.from_frame(keypoints[:, :2]), keypoints[:, 2:]], axis=1)
        return moved[list(MIRRORED)] if self.mirrored else moved

    def keypoints_to_frame(self, keypoints: Array) -> Array:
        """The inverse of :meth:`keypoints_from_frame`."""
        moved = np.concatenate([self.to_frame(keypoints[:, :2]), keypoints[:, 2:]], axis=1)
        return moved[list(MIRRORED)] if self.mirrored else moved

    @property
    def heatmap(self) -> Crop:
        """The map from the frame to the heatmap, a quarter of the crop's size."""
        height, width = self.size
        return Crop(self.matrix / STRIDE, (height // STRIDE, width // STRIDE), self.mirrored)


def crop_around(
    box: Box,
    size: tuple[int, int] = (384, 288),
    *,
    padding: float = BOX_PADDING,
    zoom: float = 1.0,
    rotation: float = 0.0,
    mirrored: bool = False,
) -> Crop:
    """The crop around a box: the box is padded, extended to the crop's aspect, scaled and turned about its centre.

    Args:
        box: x, y, width, height in the frame.
        size: height and width of the crop, multiples of 32. The paper's is 384 x 288.
        padding: how much larger than the box.
        zoom: how much larger the region is, on top of that.
        rotation: degrees, clockwise as one looks at the frame.
        mirrored: whether left and right change places.

    Raises:
        AnnotationError: the box is empty or not finite.
        ValueError: the size is no multiple of 32.
    """
    height, width = size
    if height < 32 or width < 32 or height % 32 or width % 32:
        raise ValueError(f"size: {height} x {width}, should be multiples of 32")
    x, y, box_width, box_height = box
    if not (np.isfinite(box).all() and box_width > 0 and box_height > 0):
        raise AnnotationError(f"box: {list(box)}, should have a positive width and height")
    scale = min(width / box_width, height / box_height) / (padding * zoom)
    angle = np.deg2rad(rotation)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        turn = turn * (-1, 1)
    centre = np.array([x + box_width / 2, y + box_height / 2])
    place = np.array([width / 2, height / 2]) - turn @ centre
    return Crop(np.concatenate([turn, place[:, None]], axis=1), size, mirrored)


def normalised(image: Image) -> Tensor:
    """RGB uint8 [h, w, 3] as float32 [3, h, w] with ImageNet's mean and deviation taken out."""
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
    return (tensor - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def denormalised(image: Tensor) -> Image:
    """The inverse of :func:`normalised`, rounded."""
    tensor = image.detach().cpu().float() * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    return np.asarray((255 * tensor).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


@dataclass(frozen=True)
class Augmentation:
    """Random crops for training; the defaults are the paper's and its code's.

    Rotation and scale are drawn from normal distributions and clipped, as there.
    """

    rotation: float = 45.0  # degrees, standard deviation; at most twice that
    rotated: float = 0.6  # probability that there is a rotation
    scale: float = 0.35  # standard deviation, and the most
    flip: float = 0.5  # probability
    half_body: float = 0.3  # probability, for people of whom more than half_body_joints are visible
    half_body_joints: int = 8

    def crop(self, person: Person, size: tuple[int, int], rng: np.random.Generator) -> Crop:
        """A random crop around a person."""
        box, padding = person.box, BOX_PADDING
        if person.visible.sum() > self.half_body_joints and rng.random() < self.half_body:
            half = _half_body(person, rng)
            if half is not None:
                box, padding = half, HALF_BODY_PADDING
        return crop_around(
            box,
            size,
            padding=padding,
            zoom=float(np.clip(rng.normal(1, self.scale), 1 - self.scale, 1 + self.scale)),
            rotation=self._rotation(rng),
            mirrored=rng.random() < self.flip,
        )

    def _rotation(self, rng: np.random.Generator) -> float:
        angle = np.clip(rng.normal(0, self.rotation), -2 * self.rotation, 2 * self.rotation)
        return float(angle) if rng.random() < self.rotated else 0.0


def _half_body(person: Person, rng: np.random.Generator) -> Box | None:
    """The box of the visible joints of the upper or the lower body; None where neither has three that span an area."""
    halves = [[joint for joint in half if person.visible[joint]] for half in (UPPER_BODY, LOWER_BODY)]
    if rng.random() < 0.5:
        halves.reverse()
    joints = next((half for half in halves if len(half) > 2), None)
    if joints is None:
        return None
    points = person.keypoints[joints, :2]
    extent = np.ptp(points, axis=0)
    if (extent <= 0).any():
        return None
    x, y = points.mean(axis=0) - extent / 2  # the authors' code centres on the mean, not on the middle
    return float(x), float(y), float(extent[0]), float(extent[1])
