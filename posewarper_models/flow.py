"""Baselines of propagation: labels moved by optical flow, or not moved at all.

A joint moves with the flow at its position. Over several frames either the flow between the two frames is used
(direct), or those between neighbours, one after the other (chained).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from posewarper_models.data.annotations import Array, Clip, FrameLabels, Labels, Person
from posewarper_models.video import Image

Field = NDArray[np.float32]  # [H, W, 2], (dx, dy) in pixels
Flow = Callable[[Image, Image], Field]  # from the first frame to the second


@dataclass(frozen=True)
class Farneback:
    """Farnebäck's flow by polynomial expansion, with OpenCV's parameters."""

    pyramid_scale: float = 0.5
    levels: int = 4
    window: int = 15  # pixels
    iterations: int = 5
    neighbourhood: int = 5  # pixels
    sigma: float = 1.1

    def __call__(self, first: Image, second: Image) -> Field:
        """The flow [H, W, 2] from the first to the second frame."""
        flow = cv2.calcOpticalFlowFarneback(
            _grey(first),
            _grey(second),
            np.zeros((*first.shape[:2], 2), np.float32),
            self.pyramid_scale,
            self.levels,
            self.window,
            self.iterations,
            self.neighbourhood,
            self.sigma,
            0,
        )
        return np.asarray(flow, np.float32)


@dataclass(frozen=True)
class Dis:
    """Dense inverse search (Kroeger et al., ECCV 2016), OpenCV's slowest and most exact preset."""

    finest_scale: int = 0  # 0 is full resolution
    patch: int = 8  # pixels

    def __call__(self, first: Image, second: Image) -> Field:
        """The flow [H, W, 2] from the first to the second frame."""
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.setFinestScale(self.finest_scale)
        search.setPatchSize(self.patch)
        search.setPatchStride(max(self.patch // 2, 1))
        return np.asarray(
            search.calc(_grey(first), _grey(second), np.zeros((*first.shape[:2], 2), np.float32)), np.float32
        )


def still(first: Image, second: Image) -> Field:
    """No motion: labels are copied."""
    return np.zeros((*first.shape[:2], 2), np.float32)


FLOWS: dict[str, Flow] = {"copy": still, "farneback": Farneback(), "dis": Dis()}


def _grey(image: Image) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def moved(points: Array, flow: Field) -> Array:
    """Points [K, 2], (x, y), moved by the flow at their positions (bilinear; that of the border outside).

    >>> moved(np.array([[1.5, 1.0]]), np.full((4, 4, 2), (2.0, -0.5), np.float32)).tolist()
    [[3.5, 0.5]]
    """
    if not len(points):
        return points.copy()
    x, y = points.astype(np.float32).T
    steps = cv2.remap(flow, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    return np.asarray(points + steps)


def propagate(clip: Clip, flow: Flow, *, chained: bool = False, max_delta: int = 3) -> Labels:
    """Labels for the frames near labelled ones, moved from the nearest by optical flow.

    Args:
        clip: with sparse labels.
        flow: one of :data:`FLOWS`, or any function of two frames RGB uint8 [H, W, 3] that gives (dx, dy) [H, W, 2].
        chained: whether joints go from frame to frame, rather than in one step.
        max_delta: how far from a labelled frame.

    Returns:
        the clip's labels, with the new ones; a joint that leaves the image is no longer annotated.
    """
    cached = cache(lambda first, second: flow(clip.frames[first], clip.frames[second]))
    frames = list(clip.labels.frames)
    for target, source in clip.labels.nearest_labelled(max_delta).items():
        step = 1 if target > source else -1
        path = range(source, target + step, step) if chained else (source, target)
        flows = [cached(first, second) for first, second in pairwise(path)]
        frames[target] = _propagated(clip.labels.frames[source], frames[target], flows)
    name = getattr(flow, "__name__", type(flow).__name__)
    how = "frame by frame" if chained else "directly"
    return replace(clip.labels, frames=tuple(frames), source=f"propagated {how} by {name}")


def _propagated(source: FrameLabels, target: FrameLabels, flows: list[Field]) -> FrameLabels:
    people = tuple(_moved_person(person, flows) for person in source.people)
    return replace(target, people=tuple(person for person in people if person.annotated.any()), labelled=True)


def _moved_person(person: Person, flows: list[Field]) -> Person:
    """The joints follow the flow; the box goes with their mean."""
    keypoints = person.keypoints.copy()
    known = person.annotated
    points = keypoints[known, :2]
    for flow in flows:
        points = moved(points, flow)
    shift = (points - keypoints[known, :2]).mean(axis=0)
    keypoints[known, :2] = points
    height, width = flows[0].shape[:2]
    inside = ((points > -0.5) & (points < (width - 0.5, height - 0.5))).all(axis=1)
    keypoints[np.flatnonzero(known)[~inside]] = 0
    x, y, box_width, box_height = person.box
    box = (float(x + shift[0]), float(y + shift[1]), box_width, box_height)
    return Person(person.track_id, box, keypoints)
