"""Poses drawn into frames, and videos of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from posewarper_models.data.annotations import Array, Clip, Labels, Person
from posewarper_models.skeleton import COLOURS, LIMBS, NUM_JOINTS
from posewarper_models.video import Image

LABELLED, OTHER = (255, 214, 10), (90, 90, 90)  # border of frames that somebody labelled, and of all others
_SHIFT = 4  # OpenCV draws at sixteenths of a pixel


class OutputError(ValueError):
    """A picture or a video that cannot be written. The message names it."""


def draw_people(image: Image, people: Sequence[Person], zoom: float = 1.0) -> Image:
    """A copy of a frame, enlarged, with the people's limbs and joints; hidden joints are hollow.

    Args:
        image: RGB uint8 [H, W, 3].
        people: in the frame's pixels.
        zoom: of the copy.

    >>> draw_people(np.zeros((40, 60, 3), np.uint8), [], zoom=2).shape
    (80, 120, 3)
    """
    height, width = image.shape[:2]
    size = (round(width * zoom), round(height * zoom))
    canvas = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8).copy()
    for person in people:
        _draw_person(canvas, person, zoom)
    return canvas


def _draw_person(canvas: Image, person: Person, zoom: float) -> None:
    thickness = max(round(max(person.box[2:]) * zoom / 100), 1)
    points = [_fixed((point + 0.5) * zoom - 0.5) for point in person.keypoints[:, :2]]
    known = person.annotated
    for start, end in LIMBS:
        if known[start] and known[end]:
            cv2.line(canvas, points[start], points[end], COLOURS[end], thickness, cv2.LINE_AA, _SHIFT)
    for joint in range(NUM_JOINTS):
        if known[joint]:
            radius = round((thickness + 1) * 2**_SHIFT)
            cv2.circle(canvas, points[joint], radius, (255, 255, 255), cv2.FILLED, cv2.LINE_AA, _SHIFT)
            inside = COLOURS[joint] if person.visible[joint] else (0, 0, 0)
            cv2.circle(canvas, points[joint], round(0.7 * radius), inside, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _fixed(point: Array) -> tuple[int, int]:
    """Far outside the image is as good as outside, and fits OpenCV's integers."""
    x, y = np.clip(point, -1e4, 1e4) * 2**_SHIFT
    return round(x), round(y)


def overlay(clip: Clip, labels: Labels, zoom: float = 1.0, labelled: Sequence[int] = ()) -> Iterator[Image]:
    """The frames of a clip with the people of some labels, one by one.

    Args:
        clip: whose frames are drawn on.
        labels: of all its frames, as propagated or aggregated.
        zoom: of the frames.
        labelled: frames that get a yellow border: those somebody labelled, from which the others were made.
    """
    marked = set(labelled)
    for index, frame in enumerate(labels.frames):
        canvas = draw_people(clip.frames[index], frame.people, zoom)
        border = max(canvas.shape[0] // 60, 2)
        colour = LABELLED if index in marked else OTHER
        cv2.rectangle(canvas, (0, 0), (canvas.shape[1] - 1, canvas.shape[0] - 1), colour, border)
        yield canvas


def write_video(frames: Iterable[Image], path: Path, fps: float) -> None:
    """Frames RGB uint8 [H, W, 3], all of one size, as a video.

    Args:
        frames: at least one.
        path: a new file; ``.mp4`` or ``.gif``. It appears only once it is complete.
        fps: frames a second; GIF knows hundredths of a second only.

    Raises:
        OutputError: the file exists, its suffix is another, there are no frames, or OpenCV cannot write it.
    """
    if path.exists():
        raise OutputError(f"{path}: exists already; name a new file")
    if path.suffix not in _WRITERS:
        raise OutputError(f"{path}: is {path.suffix or 'without suffix'}, should be {' or '.join(_WRITERS)}")
    if not fps > 0:
        raise OutputError(f"{path}: fps is {fps}, should be positive")
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise OutputError(f"{path}: there are no frames to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished-{path.name}")
    try:
        _WRITERS[path.suffix](chain([first], remaining), unfinished, fps, first.shape)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_mp4(frames: Iterable[Image], path: Path, fps: float, shape: tuple[int, ...]) -> None:
    # The codec wants even sides.
    height, width = (side + side % 2 for side in shape[:2])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    if not writer.isOpened():
        raise OutputError(f"{path}: OpenCV cannot write MP4 files here")
    try:
        for frame in frames:
            padded = np.pad(frame, ((0, height - shape[0]), (0, width - shape[1]), (0, 0)), mode="edge")
            writer.write(cv2.cvtColor(padded, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()


def _write_gif(frames: Iterable[Image], path: Path, fps: float, shape: tuple[int, ...]) -> None:
    from PIL import Image as Pillow

    pictures = [Pillow.fromarray(frame).quantize(128) for frame in frames]
    duration = max(round(100 / fps) * 10, 20)  # milliseconds; players slow down what is shorter
    pictures[0].save(path, format="GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0)


_WRITERS = {".mp4": _write_mp4, ".gif": _write_gif}
