"""What makes propagated poses comparable: the same joints, the same scores, the same frames for every method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from posewarper_models.data.annotations import Array, Clip, FrameLabels, Labels, Person
from posewarper_models.data.crops import Crop, crop_around
from posewarper_models.evaluate import JointErrors, by_group, evaluate, joint_errors
from posewarper_models.experiments.tallies import THRESHOLDS, Tally, tally
from posewarper_models.inference import crops
from posewarper_models.network import PoseWarper
from posewarper_models.propagate import REACH, Propagator, assignments, propagated, with_people
from posewarper_models.skeleton import NUM_JOINTS
from posewarper_models.video import Frames

MEASURED_EVERY = 3  # frames: aggregation computes seven for each, and neighbours say nearly the same
DISTANCES = tuple(f"δ={delta}" for delta in range(1, REACH + 1))
VISIBILITY = ("visible", "hidden")
# What differences are of: all joints, visible ones, hidden ones, within every threshold.
SHARES = {
    f"PCK@{threshold}" + (f", {sight}" if sight else ""): (threshold, sight)
    for sight in (None, *VISIBILITY)
    for threshold in THRESHOLDS
}


@dataclass(frozen=True)
class Task:
    """A clip to propagate through: its sparse labels, and what every method is held to."""

    clip: Clip  # with sparse labels
    truth: Labels  # of the frames to be labelled: the joints that every method can know

    @property
    def away(self) -> dict[int, int]:
        """Frame -> how many frames away from its labelled frame."""
        chosen = assignments(self.clip.labels, REACH)
        return {target: abs(target - source) for source, targets in chosen.items() for target in targets}

    def moves(self) -> Iterator[tuple[int, int, list[tuple[Person, Person]]]]:
        """A labelled frame, a frame that takes its labels, and everyone to find there: labelled, and in truth."""
        for source, targets in assignments(self.clip.labels, REACH).items():
            for target in targets:
                people = [
                    (known, person)
                    for person in self.truth.frames[target].people
                    if (known := self.clip.labels.frames[source].person(person.track_id)) is not None
                ]
                yield source, target, people


def task(clip: Clip, every: int, image_size: tuple[int, int]) -> Task:
    """Sparse labels of a clip, and the truth of the frames around them.

    Joints that are not annotated in the labelled frame, or lie outside the crop around its person in either frame,
    are out of a heatmap's reach: they are left out for all methods alike.
    """
    sparse = clip.labels.every(every)
    frames = [replace(frame, labelled=False, people=(), ignore_regions=()) for frame in clip.labels.frames]
    for source, targets in assignments(sparse, REACH).items():
        for target in targets:
            frame = clip.labels.frames[target]
            if frame.labelled:
                people = _reachable(sparse.frames[source], frame, image_size)
                frames[target] = replace(frame, people=people, ignore_regions=())
    return Task(clip.relabelled(sparse), replace(clip.labels, frames=tuple(frames)))


def _reachable(source: FrameLabels, target: FrameLabels, image_size: tuple[int, int]) -> tuple[Person, ...]:
    people = []
    for person in target.people:
        known = source.person(person.track_id)
        if known is None or person.head_box is None:
            continue
        crop = crop_around(known.box, image_size)
        both = person.annotated & known.annotated & _inside(crop, person) & _inside(crop, known)
        if both.any():
            people.append(replace(person, keypoints=person.keypoints * both[:, None]))
    return tuple(people)


def _inside(crop: Crop, person: Person) -> NDArray[np.bool_]:
    """[J], whether a joint's place is on the heatmap."""
    height, width = crop.heatmap.size
    x, y = crop.heatmap.from_frame(person.keypoints[:, :2]).T
    return np.asarray((x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5))


def propagated_by(propagator: Propagator, method: str, task: Task) -> Labels:
    """What a method makes of a task's sparse labels."""
    return with_people(task.clip.labels, propagated(task.clip, propagator), method)


def held_to(truth: Labels, predicted: Labels) -> Labels:
    """Predictions without what the truth does not have: other frames, people and joints."""
    frames = []
    for known, frame in zip(truth.frames, predicted.frames, strict=True):
        people = []
        for person in frame.people:
            wanted = known.person(person.track_id)
            if wanted is not None:
                joints = wanted.annotated & person.annotated
                people.append(replace(person, keypoints=person.keypoints * joints[:, None]))
        frames.append(replace(frame, labelled=known.labelled, people=tuple(p for p in people if p.annotated.any())))
    return replace(predicted, frames=tuple(frames))


def thinned(labels: Labels) -> Labels:
    """Labels of the frames that aggregation is measured on."""
    return labels.keep_labelled(labels.labelled[::MEASURED_EVERY])


def scored_alike(
    model: PoseWarper, frames: Frames, truth: Labels, methods: Sequence[Labels], batch: int = 16
) -> list[Labels]:
    """Predictions of several methods with scores of one kind: how high the frame's own heatmap is at the joint.

    Average precision depends on scores as much as on positions, and flow has none of its own. All methods get those
    of the single-frame network, in the crop around the person's true box.

    Args:
        model: in evaluation mode.
        frames: of the clip.
        truth: whose people have the boxes.
        methods: predictions, held to the truth.
        batch: crops at a time.
    """
    places = [(index, person) for index, frame in enumerate(truth.frames) for person in frame.people]
    heights: dict[tuple[int, int], tuple[Crop, Tensor]] = {}
    for start in range(0, len(places), batch):
        some = places[start : start + batch]
        around = [crop_around(person.box, model.image_size) for _, person in some]
        with torch.inference_mode():
            images = torch.cat([crops(model, frames, [i], crop) for (i, _), crop in zip(some, around, strict=True)])
            found = model.heatmaps(images).float().cpu()
        for (index, person), crop, heatmaps in zip(some, around, found, strict=True):
            heights[index, person.track_id] = (crop.heatmap, heatmaps)

    def scored(index: int, person: Person) -> Person:
        crop, heatmaps = heights[index, person.track_id]
        return replace(person, scores=_heights(heatmaps, crop.from_frame(person.keypoints[:, :2])))

    return [
        replace(
            labels,
            frames=tuple(
                replace(frame, people=tuple(scored(index, person) for person in frame.people))
                for index, frame in enumerate(labels.frames)
            ),
        )
        for labels in methods
    ]


def _heights(heatmaps: Tensor, points: Array) -> Array:
    """[J], heatmaps [J, h, w] at points [J, 2], bilinear; 0 outside."""
    height, width = heatmaps.shape[1:]
    size = torch.tensor([width - 1, height - 1])
    grid = (2 * torch.from_numpy(points).float() / size - 1).view(NUM_JOINTS, 1, 1, 2)
    return F.grid_sample(heatmaps.unsqueeze(1), grid, align_corners=True).flatten().double().numpy()


def by_distance(tasks: Sequence[Task], predictions: Sequence[Labels]) -> Tally:
    """Joints found, by how many frames away the labelled frame is."""
    errors = joint_errors([task.truth for task in tasks], predictions)
    away = {task.clip.id: task.away for task in tasks}
    numbers = [away[clip][frame] - 1 for clip, frame in zip(errors.clips, errors.frames, strict=True)]
    of_joint = np.repeat(np.array(numbers, np.int64)[:, None], NUM_JOINTS, axis=1)
    return tally(errors, of_joint, DISTANCES, [task.clip.id for task in tasks])


def by_visibility(errors: JointErrors, truth: Sequence[Labels]) -> Tally:
    """Joints found, by whether they can be seen in the frame where they are looked for."""
    return tally(errors, np.where(errors.visible, 0, 1), VISIBILITY, [labels.clip for labels in truth])


def average_precisions(truth: Sequence[Labels], predictions: Sequence[Labels]) -> dict[str, float | None]:
    """AP by group of joints and their mean, percent; None for joints that are not there."""
    return plain(by_group(evaluate(truth, predictions).ap))


def plain(values: dict[str, float]) -> dict[str, float | None]:
    """NaN, which JSON does not have, as None."""
    return {name: None if np.isnan(value) else round(value, 4) for name, value in values.items()}
