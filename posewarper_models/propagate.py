"""Pose annotation propagation (paper, sections 3 and 4.1): labels of a few frames, carried to those around them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from posewarper_models.data.annotations import AnnotationError, Clip, Labels, Person
from posewarper_models.data.crops import crop_around
from posewarper_models.data.pairs import target_weight
from posewarper_models.heatmaps import encode
from posewarper_models.inference import AUTHORS_DECODING, Decoding, crops, moved_person
from posewarper_models.network import PoseWarper
from posewarper_models.video import Frames

REACH = 3  # frames; the paper's
METHOD = "PoseWarper"
# Gives people of a labelled frame at other frames: one list of people for each of those.
Propagator = Callable[[Frames, int, Sequence[Person], Sequence[int]], list[list[Person]]]


def propagate(model: PoseWarper, clip: Clip, *, reach: int = REACH, decoding: Decoding = AUTHORS_DECODING) -> Labels:
    """Labels for all frames near labelled ones.

    Each unlabelled frame takes the people of its nearest labelled frame (the earlier of two), if that is at most
    ``reach`` frames away. Joints that are not annotated there, or lie outside the crop, stay without annotation.

    Args:
        model: in evaluation mode.
        clip: with sparse labels.
        reach: the paper's 3 covers everything where every 7th frame is labelled.
        decoding: how joints are read from the warped heatmaps.

    Returns:
        The clip's labels with more labelled frames; what was labelled stays as it is.

    Raises:
        AnnotationError: no frame is labelled.
        VideoError: a frame cannot be read.
    """
    return with_people(clip.labels, propagated(clip, by_warping(model, decoding), reach), METHOD)


def propagated(
    clip: Clip, propagator: Propagator, reach: int = REACH, done: Collection[int] = ()
) -> Iterator[tuple[int, list[Person]]]:
    """Frame by frame (index and people) what a propagator makes of a clip's labels; baselines use it too.

    Frames that are ``done`` are left out.
    """
    for source, frames in assignments(clip.labels, reach).items():
        targets = [frame for frame in frames if frame not in done]
        people = clip.labels.frames[source].people
        yield from zip(targets, propagator(clip.frames, source, people, targets), strict=True)


def with_people(labels: Labels, found: Iterator[tuple[int, list[Person]]], method: str) -> Labels:
    """Labels with more labelled frames, whose source names the method."""
    frames = list(labels.frames)
    for index, people in found:
        frames[index] = replace(frames[index], labelled=True, people=tuple(people))
    return replace(labels, frames=tuple(frames), source=f"{labels.source}, propagated by {method}")


def assignments(labels: Labels, reach: int) -> dict[int, list[int]]:
    """Labelled frame -> the unlabelled frames that take its people.

    Raises:
        AnnotationError: no frame is labelled, or ``reach`` is not positive.

    >>> from posewarper_models.data.annotations import FrameLabels
    >>> frames = [FrameLabels(i, f"images/dance/{i:06d}.jpg", labelled=i in (3, 7)) for i in range(9)]
    >>> assignments(Labels("dance", tuple(frames), "PoseTrack18", "me"), reach=3)
    {3: [0, 1, 2, 4, 5], 7: [6, 8]}
    """
    labelled = labels.labelled
    if not labelled:
        raise AnnotationError(f"clip {labels.clip}: no frame is labelled, so there is nothing to propagate")
    if reach < 1:
        raise AnnotationError(f"reach: is {reach}, should be at least 1")
    targets: dict[int, list[int]] = {index: [] for index in labelled}
    for index in sorted(set(range(len(labels.frames))) - set(labelled)):
        nearest = min(labelled, key=lambda source: (abs(source - index), source))
        if abs(nearest - index) <= reach:
            targets[nearest].append(index)
    return targets


def by_warping(model: PoseWarper, decoding: Decoding = AUTHORS_DECODING) -> Propagator:
    """PoseWarper as a propagator."""

    def propagator(frames: Frames, source: int, people: Sequence[Person], targets: Sequence[int]) -> list[list[Person]]:
        each = [_warped(model, decoding, frames, source, person, targets) for person in people if targets]
        return [[found[index] for found in each if found] for index in range(len(targets))]

    return propagator


@torch.inference_mode()
def _warped(
    model: PoseWarper, decoding: Decoding, frames: Frames, source: int, person: Person, targets: Sequence[int]
) -> list[Person]:
    """One person at each of the target frames; none where no joint can be carried."""
    crop = crop_around(person.box, model.image_size)
    heatmap = crop.heatmap
    keypoints = heatmap.keypoints_from_frame(person.keypoints)
    annotated = np.concatenate([keypoints[:, :2], person.annotated[:, None]], axis=1)
    inside = target_weight(annotated, heatmap.size, model.sigma).flatten()
    joints = inside.numpy() > 0
    if not joints.any():
        return []
    f_source, f_targets = model.heatmaps(crops(model, frames, [source, *targets], crop)).tensor_split([1])
    drawn = encode(torch.from_numpy(keypoints[:, :2]).float(), inside, heatmap.size, model.sigma).to(f_source)
    everywhere = drawn.expand_as(f_targets)
    warped = model.warped(f_targets, f_source.expand_as(f_targets), everywhere)
    return [moved_person(person, joints, found) for found in decoding.joints(warped, crop)]
