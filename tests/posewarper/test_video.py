"""Frames come out alike from a video file, from image files and from memory; what cannot be read is named."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from posewarper_models.video import ArrayFrames, ImageFrames, VideoError, open_frames, read_image


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Six frames of their own brightness; red in RGB on the left."""
    frames = np.zeros((6, 48, 64, 3), np.uint8)
    frames[:] = (np.arange(6) * 30 + 20)[:, None, None, None]
    frames[:, :, :32, 1:] = 0
    return frames


@pytest.fixture
def folder(tmp_path: Path, frames: np.ndarray) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index:06d}.png"), frame[..., ::-1])
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def video(tmp_path: Path, frames: np.ndarray) -> Path:
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def test_a_folder_gives_its_images_in_order(folder: Path, frames: np.ndarray) -> None:
    np.testing.assert_array_equal(np.stack(list(open_frames(folder))), frames)


@pytest.mark.parametrize("order", [range(6), (5, 0, 3, 3, 2)], ids=["forwards", "any order"])
def test_a_video_gives_its_frames_in_any_order(video: Path, frames: np.ndarray, order: range) -> None:
    read = open_frames(video)
    assert len(read) == 6
    for index in order:
        assert np.abs(read[index].astype(int) - frames[index]).mean() < 6  # what its compression loses


def test_a_video_can_be_handed_to_another_process(video: Path) -> None:
    read = open_frames(video)
    read[4]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(read))[2], read[2])


def test_an_array_gives_itself(frames: np.ndarray) -> None:
    np.testing.assert_array_equal(np.stack(list(ArrayFrames(frames))), frames)


@pytest.mark.parametrize("index", [-1, 6])
def test_frames_that_do_not_exist(folder: Path, index: int) -> None:
    with pytest.raises(IndexError, match=f"frame {index} of 6"):
        open_frames(folder)[index]


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=re.escape(f"{tmp_path / 'a.png'}: no such image")):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"nonsense"], ids=["empty", "foreign"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=re.escape(f"{path}: not an image")):
        read_image(path)


def test_a_truncated_image_is_named(folder: Path) -> None:
    path = folder / "000000.png"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(VideoError, match=r"000000\.png: not an image"):
        open_frames(folder)[0]


def test_images_of_two_sizes_are_refused(folder: Path) -> None:
    cv2.imwrite(str(folder / "000003.png"), np.zeros((20, 30, 3), np.uint8))
    frames = ImageFrames(sorted(folder.glob("*.png")))
    frames[0]
    with pytest.raises(VideoError, match=r"000003\.png: 30 x 20 pixels, but .* 64 x 48"):
        frames[3]


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no images in this folder"):
        open_frames(tmp_path)


def test_a_missing_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"missing\.mp4: no such video"):
        open_frames(tmp_path / "missing.mp4")


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(b"nonsense" * 100)
    with pytest.raises(VideoError, match=r"video\.mp4: not a video|without a single"):
        open_frames(tmp_path / "video.mp4")


def test_arrays_of_another_type_are_refused() -> None:
    with pytest.raises(VideoError, match=r"float64 \[2, 4, 4, 3\], should be uint8"):
        ArrayFrames(np.zeros((2, 4, 4, 3)))  # type: ignore[arg-type]
