"""People, frames and clips with their labels, as plain data.

:mod:`posewarper_models.data.posetrack` reads and writes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from posewarper_models.skeleton import NUM_JOINTS
from posewarper_models.video import Frames

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]  # x, y, width, height in pixels
UNTRACKED = -1  # the track id of people whom nobody has followed; a detector's tracks are below it, labelled ones above


class AnnotationError(ValueError):
    """Labels that cannot be used. The message names file and field, or clip and frame."""


@dataclass(frozen=True)
class Person:
    """One person in one frame.

    ``keypoints`` is [J, 3]: x, y in pixels (the centre of the first pixel is 0, 0), and visibility. As in PoseTrack a
    joint is visible (x, y, 1), annotated although hidden (x, y, 0), or not annotated (0, 0, 0).
    """

    track_id: int
    box: Box
    keypoints: Array  # [J, 3]
    head_box: Box | None = None
    scores: Array | None = None  # [J], of predictions

    def __post_init__(self) -> None:
        if self.keypoints.shape != (NUM_JOINTS, 3):
            raise AnnotationError(f"keypoints: {list(self.keypoints.shape)}, should be [{NUM_JOINTS}, 3]")
        if self.scores is not None and self.scores.shape != (NUM_JOINTS,):
            raise AnnotationError(f"scores: {list(self.scores.shape)}, should be [{NUM_JOINTS}]")

    @property
    def annotated(self) -> NDArray[np.bool_]:
        """[J], the joints that have a position, visible or not."""
        return np.asarray((self.keypoints != 0).any(axis=1))

    @property
    def visible(self) -> NDArray[np.bool_]:
        """[J], the joints that can be seen."""
        return self.keypoints[:, 2] > 0


@dataclass(frozen=True)
class FrameLabels:
    """One frame of a clip: its image and the people in it."""

    image_id: int
    file_name: str  # relative to the data set's folder, as "images/val/000342_mpii_test/000000.jpg"
    people: tuple[Person, ...] = ()
    labelled: bool = True  # False where nobody has looked; a labelled frame may be empty
    ignore_regions: tuple[Array, ...] = ()  # polygons [P, 2] with people that are not annotated

    @property
    def name(self) -> str:
        """What the frame goes by in all files about its clip: its image's name without folder and suffix."""
        return PurePosixPath(self.file_name).stem

    def person(self, track_id: int) -> Person | None:
        """The person of a track, if this frame has it."""
        return next((person for person in self.people if person.track_id == track_id), None)


@dataclass(frozen=True)
class Labels:
    """The labels of a whole clip, frame by frame."""

    clip: str
    frames: tuple[FrameLabels, ...]
    version: str  # "PoseTrack17" or "PoseTrack18": how frames are numbered and named
    source: str  # who says so: "ground truth", "propagated by ...", ...
    width: int | None = None
    height: int | None = None

    def __str__(self) -> str:
        labelled = sum(frame.labelled for frame in self.frames)
        return f"{self.clip}: {self.version}, {labelled} of {len(self.frames)} frames labelled ({self.source})"

    @property
    def labelled(self) -> tuple[int, ...]:
        """The indices of the labelled frames."""
        return tuple(index for index, frame in enumerate(self.frames) if frame.labelled)

    def keep_labelled(self, indices: Sequence[int]) -> Labels:
        """The same labels with all frames but these unlabelled and empty.

        Raises:
            AnnotationError: one of the frames does not exist.
        """
        unknown = sorted(set(indices) - set(range(len(self.frames))))
        if unknown:
            raise AnnotationError(f"clip {self.clip}: no frame {unknown[0]}, there are {len(self.frames)}")
        kept = set(indices)
        frames = (
            frame if index in kept else replace(frame, labelled=False, people=(), ignore_regions=())
            for index, frame in enumerate(self.frames)
        )
        return replace(self, frames=tuple(frames))

    def every(self, k: int, start: int = 0) -> Labels:
        """Sparse labels: frames start, start + k, ... of those that are labelled stay so.

        The paper labels every 7th frame (section 4.1).
        """
        if k < 1:
            raise AnnotationError(f"every: k is {k}, should be at least 1")
        return self.keep_labelled([index for index in self.labelled if index >= start and (index - start) % k == 0])

    def spread(self, n: int) -> Labels:
        """Sparse labels: n of the labelled frames, evenly spread over the clip (all, where there are fewer).

        The paper varies n in section 4.2; n = 1 keeps the middle one.
        """
        if n < 1:
            raise AnnotationError(f"spread: n is {n}, should be at least 1")
        labelled = self.labelled
        if len(labelled) <= n:
            return self
        positions = (np.arange(n) + 0.5) * len(labelled) / n
        return self.keep_labelled([labelled[int(position)] for position in positions])


def digest(labels: Iterable[Labels]) -> str:
    """Of everything that labels say: equal where they are.

    >>> one = Labels("walk", (FrameLabels(0, "0.jpg"),), "PoseTrack18", "ground truth")
    >>> digest([one]) == digest([one.keep_labelled([0])]), digest([one]) == digest([one.keep_labelled([])])
    (True, False)
    """
    total = hashlib.sha256()
    for clip in labels:
        total.update(json.dumps(asdict(clip), default=np.ndarray.tolist).encode())
    return total.hexdigest()


@dataclass(frozen=True)
class Clip:
    """A video with its labels: frame i of ``frames`` is what ``labels.frames[i]`` describes."""

    labels: Labels
    frames: Frames
    fps: float | None = None

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.labels.frames):
            raise AnnotationError(
                f"clip {self.id}: {len(self.frames)} frames, but labels ({self.labels.source}) for "
                f"{len(self.labels.frames)}"
            )

    def __len__(self) -> int:
        return len(self.frames)

    def relabelled(self, labels: Labels) -> Clip:
        """The same frames with other labels, as ``clip.relabelled(clip.labels.every(7))``."""
        return replace(self, labels=labels)

    @property
    def id(self) -> str:
        """The clip's name."""
        return self.labels.clip
