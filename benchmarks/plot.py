"""A results file as one picture: time, ratio and share of the copy bandwidth, a dot for each peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.peers import PEERS
from benchmarks.results import Results, Row, mode_label, rows
from benchmarks.workloads import MODES

COLORS = dict(zip(PEERS, ("#777777", "#e69f00", "#cc79a7", "#0072b2", "#56b4e9", "#009e73"), strict=True))


@dataclass(frozen=True)
class Panel:
    """One column of the picture."""

    title: str
    value: Callable[[Row], float | None]
    scale: str = "log"
    line_at: float | None = None


PANELS = (
    Panel("time, ms", lambda row: row.milliseconds),
    Panel("times as fast as torchvision", lambda row: row.over_torchvision, line_at=1),
    Panel("times as fast as the best grid_sample", lambda row: row.over_grid_sample, line_at=1),
    Panel("share of the copy bandwidth", lambda row: row.share_of_copy, "linear", line_at=1),
)


def _fill(axes: Axes, panel: Panel, found: list[Row], workloads: list[str]) -> None:
    for name in dict.fromkeys(row.peer for row in found):
        points = [(panel.value(row), workloads.index(row.workload)) for row in found if row.peer == name]
        points = [(x, y) for x, y in points if x is not None]
        axes.scatter(
            [x for x, _ in points], [y for _, y in points], s=28, color=COLORS[name], label=PEERS[name].label, zorder=3
        )
    axes.set_xscale(panel.scale)
    if panel.scale == "linear":
        axes.set_xlim(left=0)
    if panel.line_at is not None:
        axes.axvline(panel.line_at, color="black", linewidth=0.8)
    axes.grid(axis="both", alpha=0.3)
    axes.set_yticks(range(len(workloads)), workloads)
    axes.set_ylim(len(workloads) - 0.5, -0.5)


def draw(results: Results, path: Path) -> None:
    """Writes the picture."""
    by_mode = {mode: [row for row in rows(results) if row.mode == mode] for mode in MODES}
    by_mode = {mode: found for mode, found in by_mode.items() if found}
    workloads = {mode: list(dict.fromkeys(row.workload for row in found)) for mode, found in by_mode.items()}
    heights = [len(names) + 2 for names in workloads.values()]
    figure, grid = plt.subplots(
        len(by_mode),
        len(PANELS),
        figsize=(19, 0.27 * sum(heights) + 1.2),
        squeeze=False,
        sharey="row",
        height_ratios=heights,
        layout="constrained",
    )
    for line, (mode, found) in zip(grid, by_mode.items(), strict=True):
        for axes, panel in zip(line, PANELS, strict=True):
            _fill(axes, panel, found, workloads[mode])
            axes.set_title(f"{mode_label(mode)}: {panel.title}" if panel is PANELS[0] else panel.title, fontsize=9)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=len(PEERS), frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
