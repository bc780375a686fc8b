"""Person boxes by a detector of torchvision, for videos without any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from posewarper_models.checkpoints import CheckpointError
from posewarper_models.data.annotations import UNTRACKED, Box, Person
from posewarper_models.skeleton import NUM_JOINTS
from posewarper_models.video import Frames, Image

PERSON = 1  # COCO's label
SURE = 0.7  # score from which on a detection counts
SAME = 0.3  # overlap (intersection over union) from which on a box belongs to the track of one before


class Detector:
    """Faster R-CNN with MobileNetV3 (torchvision's ``fasterrcnn_mobilenet_v3_large_320_fpn``), trained on COCO.

    Args:
        weights: torchvision's file, ``fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth``. Nothing is fetched.
        sure: score from which on a detection counts.

    Raises:
        CheckpointError: the file is missing or not of this network.
    """

    def __init__(self, weights: Path, sure: float = SURE) -> None:
        from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

        if not weights.is_file():
            raise CheckpointError(f"{weights}: no such file; name torchvision's weights of the detector, or give boxes")
        self.network = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None).eval()
        self.sure = sure
        try:
            self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises many kinds
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{weights}: not weights of torchvision's detector: {reason}") from error

    @torch.inference_mode()
    def __call__(self, image: Image) -> list[Box]:
        """Boxes of the people in a frame RGB uint8 [H, W, 3]."""
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
        (found,) = self.network([tensor])
        kept = (found["labels"] == PERSON) & (found["scores"] >= self.sure)
        x0, y0, x1, y1 = found["boxes"][kept].double().unbind(1)
        boxes = torch.stack([x0, y0, x1 - x0, y1 - y0], dim=1)
        return [(x, y, width, height) for x, y, width, height in boxes.tolist() if width > 0 and height > 0]


def detect(detector: Callable[[Image], Sequence[Box]], frames: Frames) -> Iterator[tuple[int, list[Person]]]:
    """The people in every frame, as boxes that keep their track id where they overlap one of the frame before.

    Ids go down from -2: nobody else's do, so that they are never taken for those of labelled people.

    Args:
        detector: gives the boxes of a frame.
        frames: of the video.

    Yields:
        A frame's index and its people, without joints.
    """
    before: list[Person] = []
    fresh = UNTRACKED - 1
    for index, image in enumerate(frames):
        before, fresh = followed(before, detector(image), fresh)
        yield index, before


def followed(before: Sequence[Person], boxes: Sequence[Box], fresh: int) -> tuple[list[Person], int]:
    """People for boxes, with the ids of those before that they overlap most; the next unused id, going down.

    >>> ada = Person(4, (0, 0, 10, 20), np.zeros((17, 3)))
    >>> [person.track_id for person in followed([ada], [(50, 0, 10, 20), (1, 0, 10, 20)], fresh=-9)[0]]
    [-9, 4]
    """
    pairs = [(overlap(box, person.box), i, j) for i, box in enumerate(boxes) for j, person in enumerate(before)]
    ids: dict[int, int] = {}
    taken: set[int] = set()
    for share, i, j in sorted(pairs, reverse=True):
        if share >= SAME and i not in ids and j not in taken:
            ids[i] = before[j].track_id
            taken.add(j)
    people = []
    for i, box in enumerate(boxes):
        if i not in ids:
            ids[i], fresh = fresh, fresh - 1
        people.append(Person(ids[i], box, np.zeros((NUM_JOINTS, 3))))
    return people, fresh


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes.

    >>> overlap((0, 0, 10, 10), (5, 0, 10, 10))
    0.3333333333333333
    """
    low = np.maximum(one[:2], other[:2])
    high = np.minimum(np.add(one[:2], one[2:]), np.add(other[:2], other[2:]))
    shared = float(np.prod(np.maximum(high - low, 0)))
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)
