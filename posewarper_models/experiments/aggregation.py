"""Table 2 and section 4.3: poses of a frame from its neighbours' as well, where frames are clean and where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.progress import track
from torch import Tensor

from posewarper_models.aggregate import WEIGHTS, Weights, aggregate, with_joints
from posewarper_models.data.annotations import Array, Clip, Labels
from posewarper_models.evaluate import HEAD_SHARE, JointErrors, joint_errors
from posewarper_models.experiments.comparison import (
    SHARES,
    VISIBILITY,
    average_precisions,
    by_visibility,
    held_to,
    scored_alike,
    thinned,
)
from posewarper_models.experiments.results import Result
from posewarper_models.experiments.tables import Page, deviation, mean_difference, mean_of, table
from posewarper_models.experiments.tallies import Integers, Ratio, Tally, tally
from posewarper_models.experiments.workspace import Workspace
from posewarper_models.inference import SUBPIXEL_DECODING
from posewarper_models.network import PoseWarper
from posewarper_models.skeleton import NUM_JOINTS


class Unwarped(PoseWarper):
    """The neighbours' heatmaps as they are: what the sum alone gives."""

    def warped(self, target: Tensor, source: Tensor, heatmap: Tensor | None = None) -> Tensor:
        """``heatmap``, or ``source`` where None."""
        return source if heatmap is None else heatmap


METHODS: dict[str, tuple[str, Weights, bool]] = {  # name, weights, whether heatmaps are warped
    "single": ("single frame", WEIGHTS["single"], True),
    "itself": ("δ = 0 alone, warped", {0: 1.0}, True),
    "unwarped": ("δ = -3…3, not warped", WEIGHTS["paper"], False),
    "authors": ("δ = -2…2, the authors' weights", WEIGHTS["authors"], True),
    "paper": ("δ = -3…3, sum", WEIGHTS["paper"], True),
}
AGAINST = ("single", "itself", "unwarped")  # what the sum is held against
SPLITS = {"test": "clean", "hard": "long exposures, occluders"}
SPEEDS = ("slow joints", "medium joints", "fast joints")
Speeds = dict[tuple[int, int], Array]
# Table 2 of the paper, mAP of HRNet and of aggregation.
PAPER = {"single": 77.3, "paper": 79.8}


def measure(space: Workspace) -> dict[str, Any]:
    """Every way of aggregation, on clean videos and on hard ones."""
    model = space.posewarper()
    measured = {split: clips for split in SPLITS if (clips := space.clips(split))}
    bounds = speed_bounds(measured["test"])
    return {
        "speed_bounds": bounds.tolist(),  # head sizes a frame
        "splits": {split: _split(space, model, split, clips, bounds) for split, clips in measured.items()},
    }


def _split(space: Workspace, model: PoseWarper, split: str, clips: Sequence[Clip], bounds: Array) -> dict[str, Any]:
    folder = space.own / space.study.main / split
    speed = {clip.id: speeds(clip.labels) for clip in clips}
    clips = [clip.relabelled(thinned(clip.labels)) for clip in clips]
    truth = [clip.labels for clip in clips]
    found = {}
    for method in METHODS:
        compute = partial(aggregated, model, clips, method, space.progress)
        found[method] = space.predictions(folder, method, truth, compute)
    final: dict[str, list[Labels]] = {method: [] for method in METHODS}
    for number, clip in enumerate(clips):
        of_clip = [held_to(clip.labels, of_method[number]) for of_method in found.values()]
        for method, labels in zip(METHODS, scored_alike(model, clip.frames, clip.labels, of_clip), strict=True):
            final[method].append(labels)
    return {method: _measured(truth, labels, speed, bounds) for method, labels in final.items()}


def aggregated(model: PoseWarper, clips: Sequence[Clip], method: str, progress: bool) -> list[Labels]:
    """The poses of clips, in the true boxes."""
    name, weights, warped = METHODS[method]
    if not warped:
        model = Unwarped(model.backbone, model.warping, model.architecture).eval()
    found = []
    for clip in track(clips, name, disable=not progress, transient=True):
        people = aggregate(model, clip.frames, clip.labels, weights=weights, decoding=SUBPIXEL_DECODING)
        found.append(with_joints(clip.labels, people, name))
    return found


def _measured(
    truth: Sequence[Labels], predictions: Sequence[Labels], speed: Mapping[str, Speeds], bounds: Array
) -> dict[str, Any]:
    errors = joint_errors(truth, predictions)
    videos = [labels.clip for labels in truth]
    return {
        "speed": tally(errors, _speed_classes(errors, speed, bounds), SPEEDS, videos).to_json(),
        "visibility": by_visibility(errors, truth).to_json(),
        "ap": average_precisions(truth, predictions),
    }


def speeds(labels: Labels) -> Speeds:
    """(frame, track) -> [J], head sizes a frame to and from the neighbouring frames; NaN where there is none."""
    found = {}
    for index, frame in enumerate(labels.frames):
        around = [labels.frames[i] for i in (index - 1, index + 1) if 0 <= i < len(labels.frames)]
        for person in frame.people:
            steps = [np.full(NUM_JOINTS, np.nan)]
            for other in (neighbour.person(person.track_id) for neighbour in around):
                if other is not None and person.head_box is not None:
                    step = np.linalg.norm(other.keypoints[:, :2] - person.keypoints[:, :2], axis=1)
                    step /= HEAD_SHARE * np.hypot(*person.head_box[2:])
                    steps.append(np.where(other.annotated & person.annotated, step, np.nan))
            there = ~np.isnan(steps)
            count = there.sum(axis=0)
            mean = np.where(there, steps, 0).sum(axis=0) / np.maximum(count, 1)
            found[index, person.track_id] = np.where(count > 0, mean, np.nan)
    return found


def speed_bounds(clips: Sequence[Clip]) -> Array:
    """The two speeds that cut the joints into thirds."""
    every = np.concatenate([speed for clip in clips for speed in speeds(clip.labels).values()])
    return np.asarray(np.nanquantile(every, [1 / 3, 2 / 3]))


def _speed_classes(errors: JointErrors, known: Mapping[str, Speeds], bounds: Array) -> Integers:
    """[N, J], the place in :data:`SPEEDS` of each joint; -1 where its speed is not known."""
    rows = zip(errors.clips, errors.frames, errors.tracks, strict=True)
    found = np.array([known[clip][frame, track] for clip, frame, track in rows])
    return np.where(np.isnan(found), -1, np.searchsorted(bounds, np.nan_to_num(found)))


def section(results: Sequence[Result], page: Page) -> str:
    """Markdown of all seeds, with a figure."""
    splits = list(results[0].measured["splits"])
    parts = [page.shown(_figure(results, splits), "aggregation", "PCK by speed of the joint")]
    for split in splits:
        parts += [
            f"**Frames: {SPLITS[split]}**",
            _table(results, split, page),
            "What neighbours add, percentage points:",
            _differences(results, split, page),
        ]
    low, high = results[0].measured["speed_bounds"]
    parts.append(
        f"Slow joints move less than {low:.2f} head sizes a frame, fast ones more than {high:.2f}. In the paper "
        f"(table 2, PoseTrack17, mAP) the sum takes HRNet from {PAPER['single']} to {PAPER['paper']}."
    )
    return "\n\n".join(parts)


def _shares(
    results: Sequence[Result],
    split: str,
    method: str,
    kind: str = "visibility",
    category: str | None = None,
    threshold: float = 0.5,
) -> list[Ratio]:
    return [
        Tally.from_json(result.measured["splits"][split][method][kind]).share(threshold, category) for result in results
    ]


def _aps(results: Sequence[Result], split: str, method: str) -> list[float | None]:
    return [result.measured["splits"][split][method]["ap"]["Mean"] for result in results]


def _table(results: Sequence[Result], split: str, page: Page) -> str:
    rows = []
    for method, (name, _, _) in METHODS.items():
        every = _shares(results, split, method)
        gain = "" if method == "single" else page.difference(every, _shares(results, split, "single"))
        by_speed = [page.percent(_shares(results, split, method, "speed", speed)) for speed in SPEEDS]
        by_sight = [page.percent(_shares(results, split, method, "visibility", sight)) for sight in VISIBILITY]
        ap = mean_of(_aps(results, split, method))
        close = page.percent(_shares(results, split, method, threshold=0.2))
        rows.append([name, page.percent(every), gain, deviation(every), *by_speed, *by_sight, close, ap])
    header = ["", "PCK@0.5", "less single frame", "s.d. of seeds", *SPEEDS, *VISIBILITY, "PCK@0.2", "mAP"]
    return table(header, rows)


def _differences(results: Sequence[Result], split: str, page: Page) -> str:
    def row(theirs: str) -> list[str]:
        found = [
            page.difference(
                *(_shares(results, split, method, "visibility", sight, threshold) for method in ("paper", theirs))
            )
            for threshold, sight in SHARES.values()
        ]
        ap = mean_difference(_aps(results, split, "paper"), _aps(results, split, theirs))
        paper = f"{PAPER['paper'] - PAPER[theirs]:+.1f}" if theirs in PAPER else "-"
        return [f"{METHODS['paper'][0]} - {METHODS[theirs][0]}", *found, ap, paper]

    return table(["", *SHARES, "mAP", "the paper, mAP"], [row(theirs) for theirs in AGAINST])


def _figure(results: Sequence[Result], splits: Sequence[str]) -> Figure:
    figure = Figure(figsize=(5 * len(splits) + 2, 3.4), layout="constrained")
    cells = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    for cell, split in zip(cells, splits, strict=True):
        for method, (name, _, _) in METHODS.items():
            shares = [_shares(results, split, method, "speed", speed) for speed in SPEEDS]
            cell.plot(
                SPEEDS, [100 * np.mean([share.value for share in each]) for each in shares], marker="o", label=name
            )
        cell.set_title(f"frames: {SPLITS[split]}")
        cell.grid(alpha=0.3)
    cells[0].set_ylabel("PCK@0.5, %")
    figure.legend(*cells[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure
