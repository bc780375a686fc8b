"""Figure 4: a pose network from few labels, from those and propagated ones, from seven times the labels; aggregation.

The networks start from the study's weights, as the paper's start from COCO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.progress import track

from posewarper_models.aggregate import WEIGHTS, Weights, aggregate, with_joints
from posewarper_models.data.annotations import Clip, Labels
from posewarper_models.evaluate import joint_errors
from posewarper_models.experiments.comparison import average_precisions, held_to, thinned
from posewarper_models.experiments.results import Result
from posewarper_models.experiments.tables import Page, deviation, mean_of, table
from posewarper_models.experiments.tallies import Ratio, Tally, tally
from posewarper_models.experiments.workspace import Workspace
from posewarper_models.inference import SUBPIXEL_DECODING
from posewarper_models.network import PoseWarper
from posewarper_models.propagate import REACH, assignments, propagate
from posewarper_models.train.run import MODEL

METHODS = {
    "gt1": "GT (1x)",
    "pgt": "GT (1x) + pGT (6x)",
    "gt7": "GT (7x)",
    "aggregated": "GT (1x) + ST-Agg.",
}


def measure(space: Workspace) -> dict[str, Any]:
    """Every amount of labels."""
    return {f"{videos} x {each}": _cell(space, videos, each) for videos, each in space.study.labels.cells}


def _cell(space: Workspace, videos: int, per_video: int) -> dict[str, Any]:
    folder = space.own / "labels" / f"{videos}x{per_video}"
    labels = space.study.labels
    dense = drawn(space.clips("train"), videos, space.seed)
    sparse = [clip.relabelled(clip.labels.spread(per_video)) for clip in dense]

    def network_of(method: str, clips: list[Clip]) -> PoseWarper:
        return space.stage("heatmaps", labels.heatmaps, folder / method, clips, space.study.start_checkpoint)

    network = network_of("gt1", sparse)
    warper = space.stage("warping", labels.warping, folder / "warping", sparse, folder / "gt1" / MODEL)

    def propagated() -> list[Labels]:
        shown = track(sparse, "propagation", disable=not space.progress, transient=True)
        return [propagate(warper, clip, decoding=SUBPIXEL_DECODING) for clip in shown]

    more = space.predictions(folder, "train", [clip.labels for clip in sparse], propagated)
    pseudo = [clip.relabelled(as_labels(found)) for clip, found in zip(sparse, more, strict=True)]
    full = [clip.relabelled(around(clip.labels, few.labels)) for clip, few in zip(dense, sparse, strict=True)]
    models: dict[str, tuple[Callable[[], PoseWarper], Weights]] = {
        "gt1": (lambda: network, WEIGHTS["single"]),
        "pgt": (lambda: network_of("pgt", pseudo), WEIGHTS["single"]),
        "gt7": (lambda: network_of("gt7", full), WEIGHTS["single"]),
        "aggregated": (lambda: warper, WEIGHTS["paper"]),
    }
    return {method: _measured(space, folder, method, *model) for method, model in models.items()}


def drawn(clips: Sequence[Clip], count: int, seed: int) -> list[Clip]:
    """``count`` clips by chance; those of a smaller count are among those of a larger one."""
    return [clips[number] for number in np.random.default_rng(seed).permutation(len(clips))[:count]]


def as_labels(propagated: Labels) -> Labels:
    """Propagated poses as labels to train on."""
    frames = (
        replace(frame, people=tuple(replace(person, scores=None) for person in frame.people))
        for frame in propagated.frames
    )
    return replace(propagated, frames=tuple(frames))


def around(dense: Labels, sparse: Labels) -> Labels:
    """All labels of the frames that propagation would reach, and of those that are labelled."""
    reached = [target for targets in assignments(sparse, REACH).values() for target in targets]
    return dense.keep_labelled([*sparse.labelled, *reached])


def _measured(
    space: Workspace, folder: Path, method: str, make: Callable[[], PoseWarper], weights: Weights
) -> dict[str, Any]:
    clips = [clip.relabelled(thinned(clip.labels)) for clip in space.clips("test")]

    def found() -> list[Labels]:
        model = make()
        return [
            with_joints(
                clip.labels,
                aggregate(model, clip.frames, clip.labels, weights=weights, decoding=SUBPIXEL_DECODING),
                METHODS[method],
            )
            for clip in track(clips, METHODS[method], disable=not space.progress, transient=True)
        ]

    truth = [clip.labels for clip in clips]
    of_method = space.predictions(folder, method, truth, found)
    predictions = [held_to(clip.labels, labels) for clip, labels in zip(clips, of_method, strict=True)]
    errors = joint_errors(truth, predictions)
    together = np.zeros(errors.distances.shape, np.int64)
    return {
        "tally": tally(errors, together, ["all"], [labels.clip for labels in truth]).to_json(),
        "ap": average_precisions(truth, predictions),  # every method has the heights of its own heatmaps as scores
    }


def section(results: Sequence[Result], page: Page) -> str:
    """Markdown of all seeds, with a figure."""
    figure = page.shown(
        _figure(results), "labels", "PCK by the number of labelled videos and of frames labelled in each"
    )
    header = ["videos x labelled frames", "", "PCK@0.5", "less GT (1x)", "s.d. of seeds", "PCK@0.2", "mAP"]
    rows = []
    for cell in results[0].measured:
        for method, name in METHODS.items():
            shares = _shares(results, cell, method)
            gain = "" if method == "gt1" else page.difference(shares, _shares(results, cell, "gt1"))
            close = page.percent(_shares(results, cell, method, 0.2))
            ap = mean_of([result.measured[cell][method]["ap"]["Mean"] for result in results])
            rows.append([cell, name, page.percent(shares), gain, deviation(shares), close, ap])
    return "\n\n".join([figure, table(header, rows)])


def _shares(results: Sequence[Result], cell: str, method: str, threshold: float = 0.5) -> list[Ratio]:
    return [Tally.from_json(result.measured[cell][method]["tally"]).share(threshold) for result in results]


def _figure(results: Sequence[Result]) -> Figure:
    cells = [tuple(map(int, name.split(" x "))) for name in results[0].measured]
    of_videos = results[0].settings["labels"]["of_videos"]
    by_videos = [(videos, each) for videos, each in cells if each == 1]
    by_frames = [(videos, each) for videos, each in cells if videos == of_videos]
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, chosen, axis in ((left, by_videos, 0), (right, by_frames, 1)):
        for method, name in METHODS.items():
            shares = [_shares(results, f"{videos} x {each}", method) for videos, each in chosen]
            values = [100 * np.mean([share.value for share in of_cell]) for of_cell in shares]
            axes.plot([cell[axis] for cell in chosen], values, marker="o", label=name)
        axes.grid(alpha=0.3)
    left.set(xlabel="labelled videos, one frame in each", ylabel="PCK@0.5, %", xscale="log")
    right.set(xlabel=f"labelled frames in each of {of_videos} videos")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure
