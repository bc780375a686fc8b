"""Person boxes by torchvision's detector: its own weights or none, tracks by overlap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from posewarper_models.checkpoints import CheckpointError
from posewarper_models.detect import PERSON, Detector, detect
from posewarper_models.video import ArrayFrames


def test_boxes_keep_their_track_while_they_overlap() -> None:
    """By ids that no labelled person has."""
    places = iter([[(0, 0, 10, 20)], [(30, 0, 10, 20), (1, 0, 10, 20)], [(2, 0, 10, 20)], [(80, 0, 10, 20)]])
    found = dict(detect(lambda image: next(places), ArrayFrames(np.zeros((4, 8, 8, 3), np.uint8))))
    assert [[person.track_id for person in found[index]] for index in range(4)] == [[-2], [-3, -2], [-2], [-4]]
    assert not any(person.annotated.any() for people in found.values() for person in people)


@pytest.mark.parametrize("content", [b"", b"not weights", None], ids=["empty", "text", "another network"])
def test_foreign_weights_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.pth"
    if content is None:
        torch.save({"layer.weight": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pth: not weights of torchvision's detector"):
        Detector(path)


@pytest.mark.slow
def test_boxes_are_in_pixels_of_the_frame(tmp_path: Path) -> None:
    """Random weights that see people everywhere: what they find is nonsense, but lies in the frame."""
    torch.manual_seed(0)
    network = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    network.roi_heads.box_predictor.cls_score.bias.data[PERSON] = 5.0
    torch.save(network.state_dict(), tmp_path / "w")
    detector = Detector(tmp_path / "w", sure=0.0)
    boxes = np.array(detector(np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)))
    assert len(boxes)
    assert (boxes[:, 2:] > 0).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= (90.01, 60.01)).all()
