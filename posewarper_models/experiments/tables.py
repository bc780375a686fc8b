"""How results are written: Markdown tables, percent with intervals, figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from posewarper_models.experiments.tallies import Interval, Ratio, interval, spread

SEEDS_FOR_BOLD = 3


@dataclass(frozen=True)
class Page:
    """Where an experiment's section goes."""

    images: Path  # folder of figures; is created
    link: str  # from the document to that folder
    resamplings: int  # of the bootstrap

    def shown(self, figure: Figure, name: str, caption: str) -> str:
        """Saves a figure and returns the Markdown that shows it."""
        self.images.mkdir(parents=True, exist_ok=True)
        # Without the date, and with names that are not random, a figure changes only if its results do.
        with rc_context({"svg.hashsalt": name}):
            figure.savefig(self.images / f"{name}.svg", metadata={"Date": None})
        return f"![{caption}]({self.link}/{name}.svg)"

    def interval(self, ours: Sequence[Ratio], theirs: Sequence[Ratio] | None = None) -> Interval:
        """See :func:`posewarper_models.experiments.tallies.interval`."""
        return interval(ours, theirs, resamplings=self.resamplings)

    def percent(self, ours: Sequence[Ratio]) -> str:
        """A share over seeds: value [low, high]."""
        return bounded(self.interval(ours))

    def difference(self, ours: Sequence[Ratio], theirs: Sequence[Ratio]) -> str:
        """Percentage points: value [low, high] ± standard deviation over seeds.

        Bold where the interval excludes zero and enough trainings stand behind it.
        """
        found = self.interval(ours, theirs)
        text = bounded(found, sign="+")
        if len(ours) > 1 and not np.isnan(found.value):
            text += f" ± {deviation(ours, theirs)}"
        return f"**{text}**" if found.excludes_zero and len(ours) >= SEEDS_FOR_BOLD else text


def bounded(found: Interval, sign: str = "") -> str:
    """Percent with bounds; a dash where there is nothing.

    >>> bounded(Interval(0.5, 0.4, 0.6))
    '50.0 [40.0, 60.0]'
    """
    if np.isnan(found.value):
        return "-"  # no joint of the kind
    value, low, high = (f"{100 * number:{sign}.1f}" for number in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def deviation(ours: Sequence[Ratio], theirs: Sequence[Ratio] | None = None) -> str:
    """The standard deviation over seeds in percentage points; a dash for one seed."""
    found = spread(ours, theirs)
    return "-" if np.isnan(found) else f"{100 * found:.1f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures.

    >>> print(table(["method", "PCK"], [["copied labels", "70.1"]]))
    | method | PCK |
    | --- | ---: |
    | copied labels | 70.1 |
    """
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def mean_of(values: Sequence[float | None], digits: int = 1) -> str:
    """The mean over seeds; a dash where there is nothing.

    >>> mean_of([70.0, 71.0]), mean_of([None])
    ('70.5', '-')
    """
    there = [value for value in values if value is not None]
    return f"{np.mean(there):.{digits}f}" if there else "-"


def mean_difference(ours: Sequence[float | None], theirs: Sequence[float | None]) -> str:
    """The mean over seeds of a difference; a dash where there is nothing.

    >>> mean_difference([70.0, 71.0], [69.0, 69.0]), mean_difference([70.0], [None])
    ('+1.5', '-')
    """
    there = [one - other for one, other in zip(ours, theirs, strict=True) if one is not None and other is not None]
    return f"{np.mean(there):+.1f}" if there else "-"
