"""Synthetic clips: articulated, textured figures that walk, wave and turn, with the labels of PoseTrack18."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from posewarper_models.data.annotations import Clip, FrameLabels, Labels
from posewarper_models.data.synthetic.scene import Scene
from posewarper_models.data.synthetic.settings import SceneSettings
from posewarper_models.video import ArrayFrames

__all__ = ["Scene", "SceneSettings", "clip_labels", "synthesise"]

SOURCE = "synthetic ground truth"


def synthesise(settings: SceneSettings, seed: int, index: int = 0, split: str = "train") -> Clip:
    """One synthetic clip in memory; the same for the same arguments.

    Args:
        settings: the kind of scene.
        seed: of the data set. Clips of other seeds have nothing in common.
        index: the clip's number in the data set, from 0. Its content does not depend on how many clips are made.
        split: goes into the frames' names only.

    >>> clip = synthesise(SceneSettings(width=64, height=64, frames=2), seed=0)
    >>> clip.frames[1].shape, clip.labels.frames[1].file_name
    ((64, 64, 3), 'images/train/000000_synth/000001.jpg')
    """
    scene = Scene(settings, (seed, index))
    labels = clip_labels(settings, index, split)
    images, frames = [], []
    for frame, (image, seen) in enumerate(scene.frames()):
        images.append(image)
        empty = labels.frames[frame]
        frames.append(scene.labels(frame, seen, empty.image_id, empty.file_name))
    array = ArrayFrames(np.stack(images), [frame.file_name for frame in frames])
    return Clip(replace(labels, frames=tuple(frames)), array, settings.fps_written)


def clip_labels(settings: SceneSettings, index: int, split: str) -> Labels:
    """The names and numbers of a clip's frames in PoseTrack18's manner, still without people."""
    name = f"{index:06d}_synth"
    frames = tuple(
        FrameLabels(10**10 + index * 10**4 + frame, f"images/{split}/{name}/{frame:06d}.jpg")
        for frame in range(settings.frames)
    )
    return Labels(name, frames, "PoseTrack18", SOURCE, settings.width, settings.height)
