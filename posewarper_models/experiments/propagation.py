"""Table 1: labels of every 7th frame, carried to the three frames on either side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from posewarper_models.aggregate import WEIGHTS, aggregate, with_joints
from posewarper_models.data.annotations import Labels, Person
from posewarper_models.data.crops import crop_around
from posewarper_models.evaluate import joint_errors
from posewarper_models.experiments.comparison import (
    DISTANCES,
    SHARES,
    Task,
    average_precisions,
    by_distance,
    by_visibility,
    held_to,
    propagated_by,
    scored_alike,
)
from posewarper_models.experiments.flows import KINDS, learned, tuned
from posewarper_models.experiments.results import Result
from posewarper_models.experiments.tables import Page, deviation, mean_difference, mean_of, table
from posewarper_models.experiments.tallies import GROUPS, Ratio, Tally
from posewarper_models.experiments.workspace import Workspace
from posewarper_models.flow import FLOWS, by_flow
from posewarper_models.inference import SUBPIXEL_DECODING, crops
from posewarper_models.network import PoseWarper
from posewarper_models.propagate import Propagator, by_warping
from posewarper_models.video import Frames

METHODS = {
    "copy": "copied labels",
    "farneback": "Farneback, direct",
    "farneback-chained": "Farneback, chained",
    "dis": "DIS, direct",
    "dis-chained": "DIS, chained",
    "learned": "learned flow, direct",
    "learned-chained": "learned flow, chained",
    "network-same-crop": "per-frame network, crop of A",
    "network": "per-frame network, true box of B",
    "posewarper": "PoseWarper",
    "cycle": "PoseWarper, cycle consistency",
}
# In figures: a colour for each kind, and dashes for what of a kind is direct flow, or has another crop or loss.
LINES = {
    "copy": ("tab:gray", "-", 1.2),
    "farneback": ("tab:blue", "--", 1.2),
    "farneback-chained": ("tab:blue", "-", 1.2),
    "dis": ("tab:orange", "--", 1.2),
    "dis-chained": ("tab:orange", "-", 1.2),
    "learned": ("tab:green", "--", 1.2),
    "learned-chained": ("tab:green", "-", 1.2),
    "network-same-crop": ("tab:purple", "--", 1.2),
    "network": ("tab:purple", "-", 1.2),
    "posewarper": ("tab:red", "-", 2.5),
    "cycle": ("tab:red", "--", 2.5),
}
# Table 1 of the paper, mAP.
PAPER = {
    "network": [79.1, 86.5, 81.4, 74.7, 81.4, 79.4, 72.3, 79.3],
    "farneback": [76.5, 82.3, 74.3, 69.2, 80.8, 74.8, 70.1, 75.5],
    "learned": [82.7, 91.0, 83.8, 78.4, 89.7, 83.6, 78.1, 83.8],
    "posewarper": [86.0, 92.7, 89.5, 86.0, 91.5, 89.1, 86.6, 88.6],
    "cycle": [86.1, 92.9, 89.5, 86.2, 91.6, 89.3, 86.9, 88.7],
}
AGAINST = ("copy", "farneback", "farneback-chained", "dis", "dis-chained", "learned", "learned-chained", "network")
Predicted = dict[str, list[Labels]]  # by method, one for each task


def measure(space: Workspace) -> dict[str, Any]:
    """Every method in every regime of motion."""
    flow_name = learned(space)[0]
    return {
        "learned_flow": flow_name,
        "regimes": {regime: _regime(space, regime) for regime in space.study.strides},
        "tuned": {
            regime: [asdict(tuned(space, regime, kind, chained)) for kind in KINDS for chained in (False, True)]
            for regime in space.study.strides
        },
    }


def _regime(space: Workspace, regime: str) -> dict[str, Any]:
    tasks, predicted = predictions(space, regime)
    return compared(space.heatmap_network(), tasks, predicted)


def predictions(space: Workspace, regime: str) -> tuple[list[Task], Predicted]:
    """The test clips of a regime, and what every method makes of them; computed once, then read."""
    tasks = space.tasks("test", regime)
    network = space.heatmap_network()
    shared, own = space.shared / regime, space.own / regime
    predicted: Predicted = {}
    for method, propagator in _flows(space, regime).items():
        predicted[method] = _kept(space, shared, method, tasks, propagator)
    models: dict[str, Callable[[], Propagator]] = {
        "network-same-crop": lambda: by_single_frames(network),
        "posewarper": lambda: by_warping(space.posewarper(regime), SUBPIXEL_DECODING),
        "cycle": lambda: by_warping(space.with_cycle(regime), SUBPIXEL_DECODING),
    }
    for method, make in models.items():
        predicted[method] = _kept(space, own, method, tasks, make())
    truth = [task.truth for task in tasks]
    predicted["network"] = space.predictions(
        own, "network", truth, lambda: [in_true_boxes(network, task) for task in tasks]
    )
    return tasks, predicted


def _kept(space: Workspace, folder: Any, method: str, tasks: Sequence[Task], propagator: Propagator) -> list[Labels]:
    labels = [task.clip.labels for task in tasks]
    return space.predictions(
        folder, method, labels, lambda: [propagated_by(propagator, method, task) for task in tasks]
    )


def _flows(space: Workspace, regime: str) -> dict[str, Propagator]:
    found: dict[str, Propagator] = {"copy": by_flow(FLOWS["copy"])}
    network = learned(space)[1]
    for chained, ending in ((False, ""), (True, "-chained")):
        for kind in KINDS:
            found[kind + ending] = by_flow(tuned(space, regime, kind, chained).flow, chained=chained)
        found["learned" + ending] = by_flow(network, chained=chained)
    return found


def by_single_frames(model: PoseWarper) -> Propagator:
    """The per-frame network as a propagator: of the labelled frame it takes the crop, and nothing else."""

    @torch.inference_mode()
    def propagator(frames: Frames, source: int, people: Sequence[Person], targets: Sequence[int]) -> list[list[Person]]:
        found: list[list[Person]] = [[] for _ in targets]
        for person in people if targets else ():
            crop = crop_around(person.box, model.image_size)
            heatmaps = model.heatmaps(crops(model, frames, targets, crop))
            for at_target, joints in zip(found, SUBPIXEL_DECODING.joints(heatmaps, crop), strict=True):
                keypoints = np.concatenate([joints[:, :2], np.ones((len(joints), 1))], axis=1)
                at_target.append(Person(person.track_id, person.box, keypoints, person.head_box, joints[:, 2]))
        return found

    return propagator


def in_true_boxes(model: PoseWarper, task: Task) -> Labels:
    """The per-frame network in the true boxes, which propagation does not know."""
    found = aggregate(model, task.clip.frames, task.truth, weights=WEIGHTS["single"], decoding=SUBPIXEL_DECODING)
    return with_joints(task.truth, found, "per-frame network")


def compared(network: PoseWarper, tasks: Sequence[Task], predicted: Predicted) -> dict[str, Any]:
    """Tallies and average precision of every method, on the same joints and with scores of one kind."""
    final: Predicted = {method: [] for method in predicted}
    for number, task in enumerate(tasks):
        of_clip = [held_to(task.truth, of_method[number]) for of_method in predicted.values()]
        scored = scored_alike(network, task.clip.frames, task.truth, of_clip)
        for method, labels in zip(predicted, scored, strict=True):
            final[method].append(labels)
    truth = [task.truth for task in tasks]
    return {
        method: {
            "distance": by_distance(tasks, labels).to_json(),
            "visibility": by_visibility(joint_errors(truth, labels), truth).to_json(),
            "ap": average_precisions(truth, labels),
        }
        for method, labels in final.items()
    }


def section(results: Sequence[Result], page: Page) -> str:
    """Markdown of all seeds, with a figure."""
    regimes = list(results[0].measured["regimes"])
    names = names_with(results[0].measured["learned_flow"])
    parts = [page.shown(_figure(results, regimes, names), "propagation", "PCK by distance, for every regime of motion")]
    for regime in regimes:
        parts += [
            f"**Motion: {regime}** (frame stride {results[0].settings['strides'][regime]})",
            _table(results, regime, names, page),
            f"Differences, motion: {regime}, percentage points; joints by whether they can be seen in the frame where "
            "they are looked for:",
            _differences(results, regime, names, page),
        ]
    main = results[0].settings["main"]
    parts += [
        f"PCK@0.5 by joint, motion: {main}:",
        _pck_by_joint(results, main, names),
        f"Average precision by joint, motion: {main}, beside the paper's table 1 (PoseTrack17, in brackets):",
        _ap_by_joint(results, main, names),
    ]
    return "\n\n".join(parts)


def names_with(learned_flow: str) -> dict[str, str]:
    """Names of all methods, given that of the learned flow."""
    return METHODS | {"learned": f"{learned_flow}, direct", "learned-chained": f"{learned_flow}, chained"}


def line_of(method: str) -> dict[str, Any]:
    """How a figure draws a method."""
    return dict(zip(("color", "linestyle", "linewidth"), LINES[method], strict=True))


def _shares(
    results: Sequence[Result],
    regime: str,
    method: str,
    threshold: float,
    category: str | None = None,
    *,
    kind: str = "distance",
    group: str | None = None,
) -> list[Ratio]:
    return [
        Tally.from_json(result.measured["regimes"][regime][method][kind]).share(threshold, category, group)
        for result in results
    ]


def _aps(results: Sequence[Result], regime: str, method: str, group: str = "Mean") -> list[float | None]:
    return [result.measured["regimes"][regime][method]["ap"][group] for result in results]


def _table(results: Sequence[Result], regime: str, names: dict[str, str], page: Page) -> str:
    rows = []
    for method in results[0].measured["regimes"][regime]:
        near = [page.percent(_shares(results, regime, method, 0.5, category)) for category in DISTANCES]
        every = _shares(results, regime, method, 0.5)
        close = page.percent(_shares(results, regime, method, 0.2))
        ap = mean_of(_aps(results, regime, method))
        rows.append([names[method], *near, page.percent(every), deviation(every), close, ap])
    header = ["method", *(f"PCK@0.5, {d}" for d in DISTANCES), "PCK@0.5", "s.d. of seeds", "PCK@0.2", "mAP"]
    return table(header, rows)


def _differences(results: Sequence[Result], regime: str, names: dict[str, str], page: Page) -> str:
    def row(ours: str, theirs: str) -> list[str]:
        found = [
            page.difference(
                *(_shares(results, regime, method, threshold, sight, kind="visibility") for method in (ours, theirs))
            )
            for threshold, sight in SHARES.values()
        ]
        ap = mean_difference(_aps(results, regime, ours), _aps(results, regime, theirs))
        paper = f"{PAPER[ours][-1] - PAPER[theirs][-1]:+.1f}" if theirs in PAPER else "-"
        return [f"{names[ours]} - {names[theirs]}", *found, ap, paper]

    rows = [row("posewarper", baseline) for baseline in AGAINST] + [row("cycle", "posewarper")]
    return table(["", *SHARES, "mAP", "the paper, mAP"], rows)


def _pck_by_joint(results: Sequence[Result], regime: str, names: dict[str, str]) -> str:
    rows = []
    for method in results[0].measured["regimes"][regime]:
        shares = [_shares(results, regime, method, 0.5, group=group) for group in (*GROUPS, None)]
        rows.append([names[method], *(mean_of([100 * share.value for share in each]) for each in shares)])
    return table(["method", *GROUPS, "all"], rows)


def _ap_by_joint(results: Sequence[Result], regime: str, names: dict[str, str]) -> str:
    columns = [*GROUPS, "Mean"]
    rows = []
    for method in results[0].measured["regimes"][regime]:
        found = [mean_of(_aps(results, regime, method, column)) for column in columns]
        paper = [f" ({value})" for value in PAPER[method]] if method in PAPER else [""] * len(columns)
        rows.append([names[method], *(ours + theirs for ours, theirs in zip(found, paper, strict=True))])
    return table(["method", *columns], rows)


def _figure(results: Sequence[Result], regimes: Sequence[str], names: dict[str, str]) -> Figure:
    figure = Figure(figsize=(4.2 * len(regimes) + 2.4, 3.6), layout="constrained")
    cells = figure.subplots(1, len(regimes), sharey=True, squeeze=False)[0]
    for cell, regime in zip(cells, regimes, strict=True):
        for method in results[0].measured["regimes"][regime]:
            shares = [_shares(results, regime, method, 0.5, category) for category in DISTANCES]
            values = [100 * np.mean([share.value for share in each]) for each in shares]
            cell.plot(range(1, len(DISTANCES) + 1), values, marker="o", label=names[method], **line_of(method))
        cell.set(title=f"motion: {regime}", xlabel="frames from the label", xticks=range(1, len(DISTANCES) + 1))
        cell.grid(alpha=0.3)
    cells[0].set_ylabel("PCK@0.5, %")
    figure.legend(*cells[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure
