"""The videos of a study: synthetic ones that are made when they are first needed, or PoseTrack's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from rich.progress import track

from posewarper_models.data.annotations import AnnotationError, Clip
from posewarper_models.data.posetrack import open_clips
from posewarper_models.data.synthetic.writing import write_clips
from posewarper_models.experiments.settings import VideoSettings
from posewarper_models.video import Frames, Image


class Videos(Protocol):
    """Labelled clips by split."""

    @property
    def name(self) -> str:
        """What a result says it was measured on."""
        ...

    def clips(self, split: str) -> list[Clip]:
        """All clips of ``"train"``, ``"tune"``, ``"test"`` or ``"hard"``, with all their labels."""
        ...


@dataclass(frozen=True)
class SyntheticVideos:
    """Clips of the generator in a folder, which is filled as needed."""

    settings: VideoSettings
    folder: Path
    progress: bool

    @property
    def name(self) -> str:
        """What a result says it was measured on."""
        return "synthetic videos"

    def clips(self, split: str) -> list[Clip]:
        """See :class:`Videos`."""
        wanted = getattr(self.settings, split)
        scene = self.settings.settings(split)
        workers = min(os.cpu_count() or 1, wanted.clips)
        made = write_clips(self.folder, scene, wanted.clips, wanted.seed, split, workers)
        for _ in track(made, f"videos: {split}", wanted.clips, disable=not self.progress, transient=True):
            pass
        return open_clips(self.folder / "annotations" / split, self.folder)[: wanted.clips]


@dataclass(frozen=True)
class PoseTrackVideos:
    """PoseTrack17 or 18 in a folder with ``annotations/train`` and ``annotations/val``.

    The last ``tune`` training videos are kept for tuning. There is no "hard" split.
    """

    folder: Path
    tune: int = 24

    @property
    def name(self) -> str:
        """What a result says it was measured on."""
        return f"the data set {self.folder.name}"

    def clips(self, split: str) -> list[Clip]:
        """See :class:`Videos`."""
        if split == "hard":
            return []
        clips = open_clips(self.folder / "annotations" / ("val" if split == "test" else "train"), self.folder)
        if split != "test" and len(clips) <= self.tune:
            raise AnnotationError(
                f"{self.folder}: {len(clips)} training videos, but more than {self.tune} are needed, which are kept "
                "for tuning"
            )
        return {"train": clips[: -self.tune], "tune": clips[-self.tune :], "test": clips}[split]


class _EveryNth:
    """Every n-th frame of others."""

    def __init__(self, frames: Frames, stride: int) -> None:
        self.frames, self.stride = frames, stride
        self.names: Sequence[str] = frames.names[::stride]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Image:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}: frames are counted from 0")
        return self.frames[index * self.stride]

    def __iter__(self) -> Iterator[Image]:
        return (self[index] for index in range(len(self)))


def strided(clip: Clip, stride: int) -> Clip:
    """Every ``stride``-th frame of a clip: the same scene, moving faster.

    >>> from posewarper_models.data.synthetic import SceneSettings, synthesise
    >>> len(strided(synthesise(SceneSettings(width=32, height=32, frames=5), seed=0), 2))
    3
    """
    labels = replace(clip.labels, frames=clip.labels.frames[::stride])
    return Clip(labels, _EveryNth(clip.frames, stride), None if clip.fps is None else clip.fps / stride)
