"""What propagation and aggregation share: people's crops through the network, and heatmaps back to joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posewarper_models.data.annotations import Array, Person
from posewarper_models.data.crops import Crop
from posewarper_models.heatmaps import Refinement, decode
from posewarper_models.network import PoseWarper
from posewarper_models.skeleton import JOINT
from posewarper_models.video import Frames

HEAD = [JOINT["nose"], JOINT["head_bottom"], JOINT["head_top"]]


@dataclass(frozen=True)
class Decoding:
    """How joints are read from heatmaps; the defaults are the authors' code. See :func:`posewarper_models.decode`."""

    blur: float = 0.0  # heatmap pixels
    refinement: Refinement = "quarter"

    def joints(self, heatmaps: Tensor, crop: Crop) -> Array:
        """Joints [N, J, 3] (x, y in the frame, and score) of heatmaps [N, J, h, w] of one crop."""
        found = decode(heatmaps.float(), blur=self.blur, refinement=self.refinement).cpu().double().numpy()
        return np.stack([crop.heatmap.keypoints_to_frame(joints) for joints in found])


AUTHORS_DECODING = Decoding()
# Low resolutions lose half a heatmap pixel, which is two of the frame's, without it.
SUBPIXEL_DECODING = Decoding(blur=1.0, refinement="parabola")
DECODINGS = {"authors": AUTHORS_DECODING, "subpixel": SUBPIXEL_DECODING}


def crops(model: PoseWarper, frames: Frames, indices: Sequence[int], crop: Crop) -> Tensor:
    """The same crop of several frames, [N, 3, h, w], on the model's device."""
    device = next(model.parameters()).device
    return torch.stack([crop.image(frames[index]) for index in indices]).to(device)


def moved_person(person: Person, joints: NDArray[np.bool_], found: Array) -> Person:
    """A person with joints elsewhere: hidden ones stay hidden, boxes keep their size and follow the joints.

    Args:
        person: as labelled in another frame.
        joints: [J], which joints have a new position; the others are not annotated any more.
        found: [J, 3], x, y and score.
    """
    keypoints = np.concatenate([found[:, :2], person.keypoints[:, 2:]], axis=1) * joints[:, None]
    shift = found[:, :2] - person.keypoints[:, :2]
    head = [joint for joint in HEAD if joints[joint]]
    box = _shifted(person.box, np.median(shift[joints], axis=0))
    head_box = person.head_box
    if head_box is not None:
        head_box = _shifted(head_box, shift[head].mean(axis=0) if head else np.median(shift[joints], axis=0))
    return Person(person.track_id, box, keypoints, head_box, found[:, 2] * joints)


def _shifted(box: tuple[float, float, float, float], shift: Array) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return x + float(shift[0]), y + float(shift[1]), width, height
