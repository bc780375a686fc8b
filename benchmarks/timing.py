"""Medians of interleaved runs: peers take turns in one loop, so that the machine's noise hits all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Run = Callable[[], object]


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    seconds: float = 2.0  # aimed at, for each peer
    fewest: int = 3
    most: int = 60

    def turns(self, estimate: float) -> int:
        """How often a peer runs that takes this long.

        >>> Plan(2.0, 3, 60).turns(0.1), Plan(2.0, 3, 60).turns(10.0)
        (20, 3)
        """
        return max(self.fewest, min(self.most, round(self.seconds / max(estimate, 1e-9))))


QUICK_PLAN = Plan(0.5, 3, 15)
GPU_PLAN = Plan(0.05, 7, 30)


@dataclass(frozen=True)
class Timing:
    """Seconds of one call."""

    median: float
    lower_quartile: float
    upper_quartile: float
    turns: int


def has_turn(index: int, turns: int, rounds: int) -> bool:
    """Whether a peer with fewer turns than rounds runs in this round: they are spread evenly.

    >>> [has_turn(i, 2, 6) for i in range(6)]
    [False, False, True, False, False, True]
    """
    return (index + 1) * turns // rounds > index * turns // rounds


def seconds_of(run: Run) -> float:
    """One call; its result is dropped after the clock has stopped."""
    start = time.perf_counter()
    result = run()
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def _timing(seconds: list[float]) -> Timing:
    lower, _, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(statistics.median(seconds), lower, upper, len(seconds))


def interleaved(runs: Mapping[str, Run], plan: Plan, clock: Callable[[Run], float] = seconds_of) -> dict[str, Timing]:
    """Timings by name. Each run is called once before, to warm up and to see how many turns it gets."""
    turns = {name: plan.turns(clock(run)) for name, run in runs.items()}
    rounds = max(turns.values(), default=0)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    gc.disable()
    try:
        for index in range(rounds):
            for name, run in runs.items():
                if has_turn(index, turns[name], rounds):
                    seconds[name].append(clock(run))
    finally:
        gc.enable()
    return {name: _timing(values) for name, values in seconds.items()}
