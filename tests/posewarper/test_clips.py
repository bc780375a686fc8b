"""Labels and the frames of a video: which image a label belongs to, and what cannot belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from posewarper_models.data.annotations import AnnotationError, Clip, FrameLabels, Labels, Person
from posewarper_models.data.clips import open_video
from posewarper_models.data.posetrack import FIRST_FRAME, VERSIONS, read_posetrack, write_posetrack

WIDTH, HEIGHT, FRAMES = 48, 32, 8


def image(place: int) -> np.ndarray:
    """Its brightness says which one it is."""
    return np.full((HEIGHT, WIDTH, 3), 20 * place + 10, np.uint8)


def place(frame: np.ndarray) -> int:
    return round((float(frame.mean()) - 10) / 20)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[Iterable[str]], Path]:
    """A folder of images with these names, in their order."""

    def make(names: Iterable[str]) -> Path:
        path = tmp_path / "frames"
        path.mkdir()
        for index, name in enumerate(names):
            cv2.imwrite(str(path / name), image(index))
        return path

    return make


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for index in range(FRAMES):
        writer.write(image(index))
    writer.release()
    return path


def labels(*numbers: int, version: str = "PoseTrack18", size: tuple[int | None, int | None] = (None, None)) -> Labels:
    """Of these frames, which one person is in."""
    person = Person(0, (1.0, 2.0, 9.0, 9.0), np.ones((17, 3)))
    frames = (FrameLabels(1000 + n, f"images/walk/{n:0{VERSIONS[version]}d}.jpg", (person,)) for n in numbers)
    return Labels("walk", tuple(frames), version, "a test", *size)


def labelled_places(clip: Clip) -> list[int]:
    return [place(clip.frames[index]) for index in clip.labels.labelled]


@pytest.mark.parametrize("first", [0, 1, 5])
@pytest.mark.parametrize("version", VERSIONS)
def test_labels_go_to_the_images_of_their_names(
    folder: Callable[[Iterable[str]], Path], version: str, first: int
) -> None:
    first = max(first, FIRST_FRAME[version])
    clip = open_video(
        folder(f"{first + index:0{VERSIONS[version]}d}.png" for index in range(FRAMES)),
        labels(first, first + 6, version=version),
    )
    assert labelled_places(clip) == [0, 6]
    assert [int(frame.name) for frame in clip.labels.frames] == list(range(first, first + FRAMES))


def test_frames_that_were_counted_from_another_number_are_read_back(
    folder: Callable[[Iterable[str]], Path], tmp_path: Path
) -> None:
    written = open_video(folder(f"{5 + index:06d}.jpg" for index in range(FRAMES)), labels(7)).labels
    write_posetrack([written], tmp_path / "labels.json")
    (read,) = read_posetrack(tmp_path / "labels.json")
    assert [frame.file_name for frame in read.frames] == [frame.file_name for frame in written.frames]
    assert read.labelled == (2,)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("names", ["frame_{:02d}.png", "{:04d}.jpg"], ids=["words", "other digits"])
def test_images_with_names_of_another_kind_count_from_the_first(
    folder: Callable[[Iterable[str]], Path], names: str, version: str
) -> None:
    first = FIRST_FRAME[version]
    path = folder(names.format(index + 1) for index in range(FRAMES))
    assert labelled_places(open_video(path, labels(first, first + 6, version=version))) == [0, 6]


@pytest.mark.parametrize("version", VERSIONS)
def test_frames_of_a_video_count_from_the_first(video: Path, version: str) -> None:
    first = FIRST_FRAME[version]
    clip = open_video(video, labels(first, first + 6, version=version))
    assert labelled_places(clip) == [0, 6]
    assert len(clip) == FRAMES


@pytest.mark.parametrize(("digits", "version"), [(6, "PoseTrack18"), (8, "PoseTrack17")])
def test_without_labels_frames_are_called_what_their_images_are(
    folder: Callable[[Iterable[str]], Path], digits: int, version: str
) -> None:
    clip = open_video(folder(f"{5 + index:0{digits}d}.jpg" for index in range(FRAMES)))
    assert clip.labels.version == version
    assert [frame.name for frame in clip.labels.frames] == [f"{5 + index:0{digits}d}" for index in range(FRAMES)]


def test_without_labels_any_names_do(folder: Callable[[Iterable[str]], Path]) -> None:
    clip = open_video(folder(["20240101.jpg", "20240105.jpg"]))
    assert [frame.name for frame in clip.labels.frames] == ["000000", "000001"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["000005.jpg", "000006.jpg"], r"000000\.jpg is labelled, but .*frames has frames 5 to 6"),
        (["000000.jpg", "000000.png"], r"000000\.png: is frame 0, should be frame 1"),
        (["000000.jpg", "000002.jpg"], r"000002\.jpg: is frame 2, should be frame 1"),
    ],
    ids=["not there", "one frame twice", "gap"],
)
def test_images_that_labels_cannot_belong_to_are_named(
    folder: Callable[[Iterable[str]], Path], names: list[str], message: str
) -> None:
    with pytest.raises(AnnotationError, match=message):
        open_video(folder(names), labels(0))


def test_labels_of_another_size_are_refused(video: Path) -> None:
    with pytest.raises(AnnotationError, match=r"clip walk: the labels are of 96 x 64 pixels, .*video\.avi has 48 x 32"):
        open_video(video, labels(0, size=(2 * WIDTH, 2 * HEIGHT)))


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (WIDTH + 1, HEIGHT - 1), (None, None), (WIDTH, None)])
def test_sizes_may_be_unknown_and_rounded_to_what_a_video_can_have(
    video: Path, size: tuple[int | None, int | None]
) -> None:
    assert labelled_places(open_video(video, labels(0, 3, size=size))) == [0, 3]
