"""Spatiotemporal pose aggregation (paper, sections 3 and 4.3): poses of a frame from those around it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from posewarper_models.data.annotations import Labels, Person
from posewarper_models.data.crops import Crop, crop_around
from posewarper_models.inference import AUTHORS_DECODING, Decoding, crops
from posewarper_models.network import PoseWarper
from posewarper_models.video import Frames

Weights = Mapping[int, float]  # of the frame delta frames later
WEIGHTS: dict[str, Weights] = {
    "paper": dict.fromkeys(range(-3, 4), 1.0),
    "authors": {-2: 0.1, -1: 0.25, 0: 0.3, 1: 0.25, 2: 0.1},
    "single": {},  # the frame's own heatmap, as the backbone gives it
}


def aggregate(
    model: PoseWarper,
    frames: Frames,
    boxes: Labels,
    *,
    weights: Weights = WEIGHTS["paper"],
    decoding: Decoding = AUTHORS_DECODING,
    done: Collection[int] = (),
) -> Iterator[tuple[int, list[Person]]]:
    """The joints of the people in a video, frame by frame, from where their boxes are.

    Args:
        model: in evaluation mode.
        frames: of the video.
        boxes: of every frame's people; their joints are not looked at. A labelled frame without people stays so;
            unlabelled ones are left out.
        weights: by how many frames later the supporting frame is; frames past an end of the video are replaced by
            the last one. Empty for the frame's own heatmap without any warp.
        decoding: how joints are read from the heatmaps.
        done: frames to leave out.

    Yields:
        The frame's index and its people; scores are heights of heatmaps over the sum of the weights.

    Raises:
        VideoError: a frame cannot be read.
    """
    for index, labels in enumerate(boxes.frames):
        if (labels.people or labels.labelled) and index not in done:
            yield index, [_found(model, frames, index, person, weights, decoding) for person in labels.people]


def with_joints(boxes: Labels, found: Iterator[tuple[int, list[Person]]], method: str) -> Labels:
    """Labels with the people that were found; only their frames count as labelled."""
    people = dict(found)
    return replace(
        boxes,
        frames=tuple(
            replace(frame, labelled=index in people, people=tuple(people.get(index, ())))
            for index, frame in enumerate(boxes.frames)
        ),
        source=f"{method} in boxes of {boxes.source}",
    )


@torch.inference_mode()
def _found(
    model: PoseWarper, frames: Frames, index: int, person: Person, weights: Weights, decoding: Decoding
) -> Person:
    crop = crop_around(person.box, model.image_size)
    joints = decoding.joints(_heatmap(model, frames, index, crop, weights), crop)[0]
    keypoints = np.concatenate([joints[:, :2], np.ones((len(joints), 1))], axis=1)
    return Person(person.track_id, person.box, keypoints, person.head_box, joints[:, 2])


def _heatmap(model: PoseWarper, frames: Frames, index: int, crop: Crop, weights: Weights) -> Tensor:
    """[1, J, h, w] of one crop; every frame's heatmap is computed once, however often it counts."""
    factors: dict[int, float] = {}
    for delta, weight in weights.items():
        support = min(max(index + delta, 0), len(frames) - 1)
        factors[support] = factors.get(support, 0.0) + weight
    supports = list(factors)
    needed = [index, *(support for support in supports if support != index)]
    heatmaps = dict(zip(needed, model.heatmaps(crops(model, frames, needed, crop)), strict=True))
    if not supports:
        alone: Tensor = heatmaps[index].unsqueeze(0)
        return alone
    sources = torch.stack([heatmaps[support] for support in supports])
    warped = model.warped(heatmaps[index].expand_as(sources), sources)
    share = torch.tensor(list(factors.values()), device=warped.device) / sum(factors.values())
    total: Tensor = (warped * share.view(-1, 1, 1, 1)).sum(dim=0, keepdim=True)
    return total
