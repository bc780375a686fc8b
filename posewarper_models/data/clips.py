"""Labels and the frames of a video brought together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from posewarper_models.data.annotations import AnnotationError, Clip, FrameLabels, Labels
from posewarper_models.data.posetrack import FIRST_FRAME, VERSIONS
from posewarper_models.video import Frames, ImageFrames, VideoFrames, open_frames

FPS = 10.0  # of what is made from frames that do not say how many there are in a second
ROUNDED = 1  # pixels: encoders make odd widths and heights even


def unlabelled(clip: str, numbers: range, version: str = "PoseTrack18") -> Labels:
    """Labels of frames with these numbers in which nobody has looked.

    >>> unlabelled("dance", range(2)).frames[1].file_name
    'images/dance/000001.jpg'
    """
    digits = VERSIONS[version]
    frames = (FrameLabels(i, f"images/{clip}/{n:0{digits}d}.jpg", labelled=False) for i, n in enumerate(numbers))
    return Labels(clip, tuple(frames), version, "nobody")


def open_video(path: Path, labels: Labels | None = None) -> Clip:
    """A video, or a folder of images, with labels of some of its frames.

    A frame's number is that in its image's name, where all images of a folder are named as the labels name them:
    ``000005.jpg`` is what labels say of ``000005.jpg``, whichever comes first. Frames of a video, and images with names
    of another kind, are counted from the version's first number.

    Args:
        path: anything that :func:`posewarper_models.video.open_frames` reads.
        labels: a frame's number is that in its file name. None for no labels.

    Raises:
        VideoError: the video cannot be read.
        AnnotationError: a frame is labelled that the video does not have, the labels are of another size, or images
            that are named by numbers leave one out or have one twice.
    """
    frames = open_frames(path)
    if labels is None:
        labels = _called_as_images(path.stem, frames)
    else:
        _check_size(labels, frames, path)
        labels = _on_frames(labels, _numbers(frames, labels.version), path)
    fps = frames.fps if isinstance(frames, VideoFrames) and frames.fps > 0 else FPS
    return Clip(labels, frames, fps)


def _in_names(frames: Frames, version: str) -> list[int]:
    """The numbers in the images' names; empty unless all are named as in this version."""
    names = [path.stem for path in frames.paths] if isinstance(frames, ImageFrames) else []
    numbers = [int(name) for name in names if name.isdecimal() and len(name) == VERSIONS[version]]
    return numbers if len(numbers) == len(names) and min(numbers, default=0) >= FIRST_FRAME[version] else []


def _called_as_images(clip: str, frames: Frames) -> Labels:
    for version in VERSIONS:
        named = _in_names(frames, version)
        if named and named == list(_counted(named[0], frames)):
            return unlabelled(clip, _counted(named[0], frames), version)
    return unlabelled(clip, range(len(frames)))


def _counted(first: int, frames: Frames) -> range:
    return range(first, first + len(frames))


def _numbers(frames: Frames, version: str) -> range:
    """Of every frame."""
    named = _in_names(frames, version)
    numbers = _counted(named[0] if named else FIRST_FRAME[version], frames)
    for name, number, expected in zip(frames.names, named, numbers, strict=False):  # nothing where none are named so
        if number != expected:
            raise AnnotationError(f"{name}: is frame {number}, should be frame {expected}: one image for every number")
    return numbers


def _check_size(labels: Labels, frames: Frames, path: Path) -> None:
    height, width = frames[0].shape[:2]
    stated = labels.width or width, labels.height or height
    if max(abs(stated[0] - width), abs(stated[1] - height)) > ROUNDED:
        raise AnnotationError(
            f"clip {labels.clip}: the labels are of {stated[0]} x {stated[1]} pixels, but {path} has {width} x {height}"
        )


def _on_frames(labels: Labels, numbers: range, path: Path) -> Labels:
    """The labels with an entry for each of the video's frames, which have these numbers."""
    by_number = {int(frame.name): frame for frame in labels.frames}
    for number, frame in by_number.items():
        if frame.labelled and number not in numbers:
            raise AnnotationError(
                f"clip {labels.clip}: {frame.file_name} is labelled, "
                f"but {path} has frames {numbers[0]} to {numbers[-1]} only"
            )
    known = PurePosixPath(labels.frames[0].file_name)
    fresh = max(frame.image_id for frame in labels.frames) + 1
    filled = []
    for place, number in enumerate(numbers):
        name = known.with_name(f"{number:0{VERSIONS[labels.version]}d}{known.suffix}")
        filled.append(by_number.get(number) or FrameLabels(fresh + place, str(name), labelled=False))
    return replace(labels, frames=tuple(filled))
