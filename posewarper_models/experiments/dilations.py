"""What the dilations are worth: five sets of offsets against one, and the paper's set against a scaled one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from posewarper_models.data.annotations import Labels
from posewarper_models.experiments.compactness import parameters
from posewarper_models.experiments.comparison import DISTANCES, Task, propagated_by
from posewarper_models.experiments.propagation import compared
from posewarper_models.experiments.results import Result
from posewarper_models.experiments.tables import Page, deviation, mean_of, table
from posewarper_models.experiments.tallies import THRESHOLDS, Ratio, Tally
from posewarper_models.experiments.workspace import Workspace
from posewarper_models.inference import SUBPIXEL_DECODING
from posewarper_models.network import PoseWarper
from posewarper_models.propagate import by_warping


def measure(space: Workspace) -> dict[str, Any]:
    """Propagation at the main regime with a warping part of each set of dilations."""
    tasks = space.tasks("test")
    folder = space.own / space.study.main
    predicted, counts = {}, {}
    for name in space.study.dilations:
        model = space.posewarper(dilations=name)
        counts[name] = parameters(model.warping)
        # The main set is what the experiment on propagation calls PoseWarper.
        method = "posewarper" if name == "main" else f"posewarper-{name}"
        compute = partial(_propagated, model, method, tasks)
        predicted[name] = space.predictions(folder, method, [task.clip.labels for task in tasks], compute)
    found = compared(space.heatmap_network(), tasks, predicted)
    return {
        name: {"dilations": list(dilations), "parameters": counts[name], **found[name]}
        for name, dilations in space.study.dilations.items()
    }


def _propagated(model: PoseWarper, method: str, tasks: Sequence[Task]) -> list[Labels]:
    propagator = by_warping(model, SUBPIXEL_DECODING)
    return [propagated_by(propagator, method, task) for task in tasks]


def section(results: Sequence[Result], page: Page) -> str:
    """Markdown of all seeds, with a figure."""
    rows = []
    for name, found in results[0].measured.items():
        every = _shares(results, name)
        rows.append(
            [
                ", ".join(map(str, found["dilations"])),
                f"{found['parameters'] / 1e6:.2f}",
                *(page.percent(_shares(results, name, category)) for category in DISTANCES),
                page.percent(every),
                deviation(every),
                page.percent(_shares(results, name, threshold=0.2)),
                *("" if name == "main" else _difference(results, name, threshold, page) for threshold in THRESHOLDS),
                mean_of([result.measured[name]["ap"]["Mean"] for result in results]),
            ]
        )
    header = [
        "dilations",
        "parameters, M",
        *(f"PCK@0.5, {d}" for d in DISTANCES),
        "PCK@0.5",
        "s.d. of seeds",
        "PCK@0.2",
        *(f"less the first, PCK@{threshold}" for threshold in THRESHOLDS),
        "mAP",
    ]
    figure = page.shown(_figure(results), "dilations", "PCK by distance, for every set of dilations")
    return "\n\n".join([figure, table(header, rows)])


def _shares(results: Sequence[Result], name: str, category: str | None = None, threshold: float = 0.5) -> list[Ratio]:
    return [Tally.from_json(result.measured[name]["distance"]).share(threshold, category) for result in results]


def _difference(results: Sequence[Result], name: str, threshold: float, page: Page) -> str:
    ours, first = (_shares(results, each, threshold=threshold) for each in (name, "main"))
    return page.difference(ours, first)


def _figure(results: Sequence[Result]) -> Figure:
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    cell = figure.subplots()
    for name, found in results[0].measured.items():
        values = [100 * np.mean([ratio.value for ratio in _shares(results, name, category)]) for category in DISTANCES]
        cell.plot(DISTANCES, values, marker="o", label=", ".join(map(str, found["dilations"])))
    cell.set(ylabel="PCK@0.5, %")
    cell.legend(title="dilations", fontsize=8)
    cell.grid(alpha=0.3)
    return figure
