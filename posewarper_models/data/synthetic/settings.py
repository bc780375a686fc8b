"""What a synthetic clip is made with, all of it physical: sizes, times, speeds, light."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite

from posewarper_models.data.synthetic.actions import ACTIONS


@dataclass(frozen=True)
class SceneSettings:
    """A kind of scene; what is in a particular one is drawn from the seed.

    How hard frames are to relate depends on ``speed`` and ``stride`` (how far things move between two frames),
    ``shutter`` (how much they blur), ``lighting``, ``noise`` and ``occluders``.

    >>> SceneSettings(width=320, height=256, stride=2).fps_written
    12.5
    """

    width: int = 208  # pixels
    height: int = 176
    frames: int = 29
    fps: float = 25.0  # of the camera
    stride: int = 1  # every how many camera frames one is written
    speed: float = 1.0  # of all motion; 1 is natural
    shutter: float = 0.02  # seconds the shutter is open: the blur's length in time
    people_min: int = 1
    people_max: int = 3
    actions: tuple[str, ...] = tuple(ACTIONS)
    figure_height: float = 0.68  # of the main figure, in frame heights; others and other clips differ by a third
    occluders: float = 1.0  # expected number in front of the people
    camera: float = 1.0  # the camera's motion; 1 is hand-held
    lighting: float = 0.25  # standard deviation of brightness over time, and depth of drifting shadows, as a share
    contrast: float = 1.0  # of the clothes' patterns
    noise: float = 4.0  # standard deviation of the sensor's noise, in grey levels of 255

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            if getattr(self, name) < 32:
                raise ValueError(f"{name}: is {getattr(self, name)}, should be at least 32 pixels")
        for name in ("frames", "stride", "people_min"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: is {getattr(self, name)}, should be at least 1")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not (isfinite(value) and value >= 0):
                raise ValueError(f"{field.name}: is {value}, should be a number of at least 0")
        if self.fps == 0 or self.figure_height == 0:
            raise ValueError("fps and figure_height: should be positive")
        if not self.people_min <= self.people_max <= MOST_PEOPLE:
            raise ValueError(
                f"people_max: is {self.people_max}, should be from people_min = {self.people_min} to {MOST_PEOPLE}"
            )
        unknown = set(self.actions) - set(ACTIONS)
        if unknown or not self.actions:
            raise ValueError(f"actions: {', '.join(self.actions) or 'none'}; there are {', '.join(ACTIONS)}")

    @property
    def fps_written(self) -> float:
        """Frames a second of what is written."""
        return self.fps / self.stride


MOST_PEOPLE = 12  # every drawn part has a number of its own in eight bits
