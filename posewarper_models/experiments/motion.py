"""How much of a joint's motion a method tells: why joints come near their place and not quite there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from posewarper_models.data.annotations import Array, Labels, Person
from posewarper_models.evaluate import head_size
from posewarper_models.experiments.comparison import Task
from posewarper_models.experiments.flows import learned
from posewarper_models.experiments.propagation import line_of, names_with, predictions
from posewarper_models.experiments.results import Result
from posewarper_models.experiments.tables import Page, table
from posewarper_models.experiments.tallies import THRESHOLDS, Ratio
from posewarper_models.experiments.workspace import Workspace
from posewarper_models.inference import SUBPIXEL_DECODING
from posewarper_models.propagate import Propagator, by_warping
from posewarper_models.skeleton import EVALUATED_JOINTS, NUM_JOINTS

LEFT_OUT = ("copy", "network-same-crop", "network")  # which tell nothing of the motion, or know nothing of the label
BOUNDS = (0.2, 0.5, 1.0)  # head sizes
SIZES = ("below 0.2", "0.2 to 0.5", "0.5 to 1", "above 1")
CLOSE = min(THRESHOLDS)
Sums = dict[str, list[list[float]]]  # by what is summed, [V, K]


def measure(space: Workspace) -> dict[str, Any]:
    """Every method that moves labels, at the main regime, and PoseWarper where nothing moves."""
    tasks, predicted = predictions(space, space.study.main)
    return {
        "learned_flow": learned(space)[0],
        "methods": {method: told(tasks, found) for method, found in predicted.items() if method not in LEFT_OUT},
        "still": told_where_nothing_moves(tasks, by_warping(space.posewarper(), SUBPIXEL_DECODING)),
    }


def told(tasks: Sequence[Task], predicted: Sequence[Labels]) -> Sums:
    """Sums over the joints of every video, by how far they have really moved.

    Returns:
        ``count``: joints. ``close``: joints within 0.2 head sizes of their place. ``square``: of the true motions,
        their squared lengths; ``along``: the told motions times the true ones, so that along / square is the share of
        the motion that is told.
    """
    sums = {name: np.zeros((len(tasks), len(SIZES))) for name in ("count", "close", "square", "along")}
    for video, (task, labels) in enumerate(zip(tasks, predicted, strict=True)):
        for true, found in _motions(task, labels):
            size = np.searchsorted(BOUNDS, np.linalg.norm(true, axis=1), side="right")
            np.add.at(sums["count"][video], size, 1)
            np.add.at(sums["close"][video], size, np.linalg.norm(found - true, axis=1) <= CLOSE)
            np.add.at(sums["square"][video], size, (true * true).sum(axis=1))
            np.add.at(sums["along"][video], size, (found * true).sum(axis=1))
    return {name: values.round(6).tolist() for name, values in sums.items()}


def _motions(task: Task, predicted: Labels) -> Iterator[tuple[Array, Array]]:
    """Of every person, true motions and told ones, both [joints, 2] in head sizes: of joints seen in both frames."""
    for _, target, people in task.moves():
        for start, person in people:
            found = predicted.frames[target].person(person.track_id)
            if found is not None and person.head_box is not None:
                seen = person.annotated & person.visible & start.visible & found.annotated
                size = head_size(person.head_box)
                yield _motion(start, person, seen) / size, _motion(start, found, seen) / size


def _motion(start: Person, end: Person, joints: NDArray[np.bool_]) -> Array:
    evaluated = np.isin(np.arange(NUM_JOINTS), EVALUATED_JOINTS)
    return np.asarray((end.keypoints - start.keypoints)[joints & evaluated, :2])


def told_where_nothing_moves(tasks: Sequence[Task], propagator: Propagator) -> dict[str, list[int]]:
    """Joints of the labelled frames, propagated to those frames themselves: how many, and how many within 0.2."""
    sums = {name: np.zeros(len(tasks), np.int64) for name in ("count", "close")}
    for video, task in enumerate(tasks):
        for frame in task.clip.labels.labelled:
            people = task.clip.labels.frames[frame].people
            found = propagator(task.clip.frames, frame, people, [frame])[0]
            for person, again in zip(people, found, strict=True):
                if person.head_box is not None:
                    motion = _motion(person, again, person.visible & again.annotated) / head_size(person.head_box)
                    sums["count"][video] += len(motion)
                    sums["close"][video] += (np.linalg.norm(motion, axis=1) <= CLOSE).sum()
    return {name: values.tolist() for name, values in sums.items()}


def section(results: Sequence[Result], page: Page) -> str:
    """Markdown of all seeds, with a figure."""
    names = names_with(results[0].measured["learned_flow"])
    still = [Ratio(*(np.array(result.measured["still"][of], float) for of in ("close", "count"))) for result in results]
    header = ["method", *(f"moved {size}" for size in SIZES)]
    return "\n\n".join(
        [
            page.shown(_figure(results, names), "motion", "Share of the motion that is told, by its size"),
            "Share of the motion that is told, percent:",
            table(header, _rows(results, names, "along", "square", page)),
            f"PCK@{CLOSE}:",
            table(header, _rows(results, names, "close", "count", page)),
            f"PoseWarper from labelled frames to themselves, where nothing moves: PCK@{CLOSE} {page.percent(still)}.",
        ]
    )


def _rows(results: Sequence[Result], names: dict[str, str], above: str, below: str, page: Page) -> list[list[str]]:
    return [
        [names[method], *(page.percent(_ratios(results, method, above, below, size)) for size in SIZES)]
        for method in results[0].measured["methods"]
    ]


def _ratios(results: Sequence[Result], method: str, above: str, below: str, size: str) -> list[Ratio]:
    column = SIZES.index(size)
    sums = [result.measured["methods"][method] for result in results]
    return [Ratio(np.array(each[above])[:, column], np.array(each[below])[:, column]) for each in sums]


def _figure(results: Sequence[Result], names: dict[str, str]) -> Figure:
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    cell = figure.subplots()
    for method in results[0].measured["methods"]:
        ratios = [_ratios(results, method, "along", "square", size) for size in SIZES]
        values = [100 * np.mean([one.value for one in each]) for each in ratios]
        cell.plot(SIZES, values, marker="o", label=names[method], **line_of(method))
    cell.set(ylabel="motion told, %", xlabel="true motion, head sizes", ylim=(0, None))
    cell.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure
