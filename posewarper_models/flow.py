"""Baselines of propagation: labels moved by optical flow, or not moved at all.

A joint moves with the flow at its position. Over several frames either the flow between the two frames is used
(direct), or those between neighbours, one after the other (chained).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from posewarper_models.data.annotations import Array, Person
from posewarper_models.inference import moved_person
from posewarper_models.propagate import Propagator
from posewarper_models.video import Frames, Image

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
    """Dense inverse search (Kroeger et al., ECCV 2016), with OpenCV's settings; by default those of its preset MEDIUM.

    Only the finest scale differs: the flow is found at full resolution, not at half of it.
    """

    finest_scale: int = 0  # 0 is full resolution
    patch: int = 8  # pixels
    stride: int = 3  # pixels between patches

    def __call__(self, first: Image, second: Image) -> Field:
        """The flow [H, W, 2] from the first to the second frame."""
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.setFinestScale(self.finest_scale)
        search.setPatchSize(self.patch)
        search.setPatchStride(self.stride)
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
    x, y = points.astype(np.float32).T
    steps = cv2.remap(flow, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    return np.asarray(points + steps)


def by_flow(flow: Flow, *, chained: bool = False) -> Propagator:
    """Optical flow as a propagator, for :func:`posewarper_models.propagate.propagated`.

    Args:
        flow: one of :data:`FLOWS`, or any function of two frames RGB uint8 [H, W, 3] that gives (dx, dy) [H, W, 2].
        chained: whether joints go from frame to frame, rather than in one step.
    """

    def propagator(frames: Frames, source: int, people: Sequence[Person], targets: Sequence[int]) -> list[list[Person]]:
        step_flow = cache(lambda first, second: flow(frames[first], frames[second]))
        found = []
        for target in targets:
            step = 1 if target > source else -1
            path = range(source, target + step, step) if chained else (source, target)
            flows = [step_flow(first, second) for first, second in pairwise(path)]
            found.append([_moved_by(person, flows) for person in people if person.annotated.any()])
        return found

    return propagator


def _moved_by(person: Person, flows: Sequence[Field]) -> Person:
    """Every joint alike trusts the flow: scores are 1."""
    points = person.keypoints[:, :2]
    for flow in flows:
        points = moved(points, flow)
    return moved_person(person, person.annotated, np.concatenate([points, np.ones((len(points), 1))], axis=1))
