"""What is kept of a measurement: how many joints were right, by video, so that intervals can be had of it later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewarper_models.data.annotations import Array
from posewarper_models.evaluate import JointErrors
from posewarper_models.skeleton import JOINT_GROUPS

THRESHOLDS = (0.5, 0.2)  # head sizes; the first is the primary figure
GROUPS = tuple(JOINT_GROUPS)
CONFIDENCE = 0.95
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Ratio:
    """A share or a mean by video: numerators and denominators, both [V]."""

    above: Array
    below: Array

    @property
    def value(self) -> float:
        """Over all videos; NaN where there is nothing."""
        return float(self.above.sum() / self.below.sum()) if self.below.sum() else float("nan")


@dataclass(frozen=True)
class Interval:
    """A value, and the bounds within which it lies for 95 % of the resampled sets of videos and seeds."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether both bounds are on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Tally:
    """Joints to find and joints found, by video, by category (frames away, speed, ...) and by group of joints."""

    videos: tuple[str, ...]  # [V]
    categories: tuple[str, ...]  # [K]
    count: Integers  # [V, K, G]
    right: dict[float, Integers]  # by threshold in head sizes, each [V, K, G]

    def share(self, threshold: float, category: str | None = None, group: str | None = None) -> Ratio:
        """PCK by video: of one category or of all, of one group of joints or of all joints together."""
        rows = slice(None) if category is None else [self.categories.index(category)]
        columns = slice(None) if group is None else [GROUPS.index(group)]
        above, below = (
            values[:, rows][:, :, columns].sum(axis=(1, 2)) for values in (self.right[threshold], self.count)
        )
        return Ratio(above.astype(float), below.astype(float))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "videos": list(self.videos),
            "categories": list(self.categories),
            "count": self.count.tolist(),
            "right": {str(threshold): values.tolist() for threshold, values in self.right.items()},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Tally:
        """The inverse of :meth:`to_json`."""
        right = {float(threshold): np.array(values, np.int64) for threshold, values in data["right"].items()}
        return cls(tuple(data["videos"]), tuple(data["categories"]), np.array(data["count"], np.int64), right)


def tally(errors: JointErrors, of_joint: Integers, categories: Sequence[str], videos: Sequence[str]) -> Tally:
    """Counts joints.

    Args:
        errors: of N people in frames.
        of_joint: [N, J], the number of each joint's category; -1 for joints that do not count.
        categories: their names.
        videos: the names of all videos, also of those without a joint.
    """
    shape = (len(videos), len(categories), len(GROUPS))
    count = np.zeros(shape, np.int64)
    right = {threshold: np.zeros(shape, np.int64) for threshold in THRESHOLDS}
    place = {name: number for number, name in enumerate(videos)}
    of_video = np.array([place[clip] for clip in errors.clips], np.int64)
    for number, joints in enumerate(JOINT_GROUPS.values()):
        for joint in joints:
            counted = (of_joint[:, joint] >= 0) & ~np.isnan(errors.distances[:, joint])
            where = (of_video[counted], of_joint[counted, joint], np.full(counted.sum(), number))
            np.add.at(count, where, 1)
            for threshold, found in right.items():
                np.add.at(found, where, errors.distances[counted, joint] <= threshold)
    return Tally(tuple(videos), tuple(categories), count, right)


def interval(ours: Sequence[Ratio], theirs: Sequence[Ratio] | None = None, *, resamplings: int) -> Interval:
    """The mean over seeds of a share, or of the difference of two, with a bootstrap interval over videos and seeds.

    Every resampling draws as many videos and as many seeds as there are, with replacement, the same ones for both
    sides: the interval says what other videos of the kind, and other trainings, would have changed. A single seed
    says nothing about other trainings, and few say little.

    Args:
        ours: one for each seed; the videos are the same.
        theirs: what is subtracted, likewise.
        resamplings: how many.

    >>> same = [Ratio(np.full(9, 3.0), np.full(9, 4.0))]
    >>> interval(same, resamplings=100)
    Interval(value=0.75, low=0.75, high=0.75)
    """
    videos, seeds = _drawn(len(ours[0].below), len(ours), resamplings)
    drawn = (_by_seed(ours, theirs, videos) * seeds).mean(axis=1)
    value = float(_by_seed(ours, theirs, np.ones_like(videos[:1])).mean())
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail]) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return Interval(value, float(low), float(high))


@cache
def _drawn(videos: int, seeds: int, resamplings: int) -> tuple[Integers, Integers]:
    """How many times every resampling takes each of V videos, [R, V], and each of S seeds, [R, S]."""
    rng = np.random.default_rng(0)
    of_videos, of_seeds = (rng.multinomial(n, np.full(n, 1 / n), size=resamplings) for n in (videos, seeds))
    return of_videos, of_seeds


def _by_seed(ours: Sequence[Ratio], theirs: Sequence[Ratio] | None, videos: Integers) -> Array:
    """[R, S], shares or differences of shares, each video taken as many times as ``videos`` [R, V] says."""
    with np.errstate(invalid="ignore"):
        shares = np.stack([(videos @ ratio.above) / (videos @ ratio.below) for ratio in ours], axis=1)
    return shares if theirs is None else shares - _by_seed(theirs, None, videos)


def spread(ours: Sequence[Ratio], theirs: Sequence[Ratio] | None = None) -> float:
    """The standard deviation over seeds, of a share or of the difference of two; NaN for a single seed."""
    once = np.ones((1, len(ours[0].below)), np.int64)
    return float(np.std(_by_seed(ours, theirs, once), ddof=1)) if len(ours) > 1 else float("nan")
