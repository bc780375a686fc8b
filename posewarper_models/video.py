"""Frames of a video, whatever they come from: a video file, a folder or a list of images, an array in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # [H, W, 3], RGB

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


class VideoError(ValueError):
    """A video, a frame or a folder of frames that cannot be read. The message names it."""


class Frames(Protocol):
    """Frames by index: RGB, uint8, all of one size [H, W, 3]."""

    @property
    def names(self) -> Sequence[str]:
        """One name a frame, for messages and for files."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image: ...

    def __iter__(self) -> Iterator[Image]: ...


def read_image(path: Path) -> Image:
    """An image file as RGB uint8 [H, W, 3]; its EXIF orientation is ignored, as annotations count stored pixels.

    Raises:
        VideoError: there is no such file, or OpenCV cannot decode it.
    """
    if not path.is_file():
        raise VideoError(f"{path}: no such image file")
    encoded = np.fromfile(path, np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if encoded.size else None
    if image is None:
        raise VideoError(f"{path}: not an image that OpenCV can decode ({encoded.size} bytes)")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


class _Checked:
    """What all kinds of frames share: bounds, iteration."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Image]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Image:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}: frames are counted from 0")
        return self._read(index)

    def _read(self, index: int) -> Image:
        raise NotImplementedError


class ArrayFrames(_Checked):
    """Frames in memory, RGB uint8 [T, H, W, 3].

    >>> len(ArrayFrames(np.zeros((5, 4, 6, 3), np.uint8)))
    5
    """

    def __init__(self, array: NDArray[np.uint8], names: Sequence[str] | None = None) -> None:
        if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8:
            raise VideoError(f"frames: {array.dtype} {list(array.shape)}, should be uint8 [T, H, W, 3]")
        super().__init__([f"frame {index}" for index in range(len(array))] if names is None else names)
        self.array = array

    def _read(self, index: int) -> Image:
        return np.asarray(self.array[index])


class ImageFrames(_Checked):
    """Image files in the order given; each is read when it is asked for.

    Raises:
        VideoError: a file is missing, cannot be decoded, or has another size than the first that was read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__([str(path) for path in paths])
        self.paths = tuple(paths)
        self._size: tuple[int, ...] | None = None

    def _read(self, index: int) -> Image:
        image = read_image(self.paths[index])
        self._size = self._size or image.shape
        if image.shape != self._size:
            height, width = self._size[:2]
            raise VideoError(
                f"{self.paths[index]}: {image.shape[1]} x {image.shape[0]} pixels, "
                f"but the frames read before are {width} x {height}"
            )
        return image


class VideoFrames(_Checked):
    """A video file. It is decoded from front to back, and again from the front where an earlier frame is asked for.

    The number of frames is counted by decoding once: containers are often wrong about it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        capture = self._opened()
        self.fps = float(capture.get(cv2.CAP_PROP_FPS))
        count = 0
        while capture.grab():
            count += 1
        capture.release()
        if count == 0:
            raise VideoError(f"{path}: a video without a single readable frame")
        super().__init__([f"{path}, frame {index}" for index in range(count)])
        self._capture, self._next = self._opened(), 0
        self._last: tuple[int, Image] | None = None

    def __reduce__(self) -> tuple[type[VideoFrames], tuple[Path]]:
        return VideoFrames, (self.path,)  # another process decodes for itself

    def _opened(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise VideoError(f"{self.path}: no such video file")
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise VideoError(f"{self.path}: not a video that OpenCV can decode")
        return capture

    def _read(self, index: int) -> Image:
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        if index < self._next:
            self._capture.release()
            self._capture, self._next = self._opened(), 0
        while self._next < index:
            self._capture.grab()
            self._next += 1
        read, image = self._capture.read()
        self._next += 1
        if not read:
            raise VideoError(f"{self.path}: frame {index} cannot be decoded")
        self._last = (index, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8))
        return self._last[1]


def open_frames(path: Path) -> ImageFrames | VideoFrames:
    """A folder of images (sorted by name) or any video file that OpenCV reads.

    Raises:
        VideoError: there is nothing at ``path``, no image in the folder, or no video in the file.
    """
    if path.is_dir():
        images = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise VideoError(f"{path}: no images in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
        return ImageFrames(images)
    return VideoFrames(path)
