"""Labels and the frames of a video brought together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from posewarper_models.data.annotations import AnnotationError, Clip, FrameLabels, Labels
from posewarper_models.data.posetrack import FIRST_FRAME, VERSIONS
from posewarper_models.video import Frames, VideoFrames, open_frames

FPS = 10.0  # of what is made from frames that do not say how many there are in a second


def unlabelled(clip: str, length: int, first_id: int = 0) -> Labels:
    """Labels of a video in which nobody has looked, named as in PoseTrack18.

    >>> unlabelled("dance", 2).frames[1].file_name
    'images/dance/000001.jpg'
    """
    frames = (FrameLabels(first_id + i, f"images/{clip}/{i:06d}.jpg", labelled=False) for i in range(length))
    return Labels(clip, tuple(frames), "PoseTrack18", "nobody")


def open_video(path: Path, labels: Labels | None = None) -> Clip:
    """A video, or a folder of images, with labels of some of its frames.

    Args:
        path: anything that :func:`posewarper_models.video.open_frames` reads.
        labels: a frame's number is that in its file name. None for no labels.

    Raises:
        VideoError: the video cannot be read.
        AnnotationError: a frame is labelled that the video does not have.
    """
    frames = open_frames(path)
    if labels is None:
        labels = unlabelled(path.stem, len(frames))
    fps = frames.fps if isinstance(frames, VideoFrames) and frames.fps > 0 else FPS
    return Clip(_on_frames(labels, frames, path), frames, fps)


def _on_frames(labels: Labels, frames: Frames, path: Path) -> Labels:
    """The labels with an entry for every frame of the video."""
    first, digits = FIRST_FRAME[labels.version], VERSIONS[labels.version]
    by_place = {int(PurePosixPath(frame.file_name).stem) - first: frame for frame in labels.frames}
    beyond = [place for place, frame in by_place.items() if place >= len(frames) and frame.labelled]
    if beyond:
        raise AnnotationError(
            f"clip {labels.clip}: {by_place[beyond[0]].file_name} is labelled, but {path} has {len(frames)} frames only"
        )
    folder = PurePosixPath(labels.frames[0].file_name).parent
    fresh = max(frame.image_id for frame in labels.frames) + 1
    filled = (
        by_place.get(place) or FrameLabels(fresh + place, f"{folder}/{place + first:0{digits}d}.jpg", labelled=False)
        for place in range(len(frames))
    )
    return replace(labels, frames=tuple(filled))
