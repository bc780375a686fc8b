"""Pictures and videos of poses: where they belong, complete or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deformwarp import FusedDeformWarp
from posewarper_models import PoseWarper
from posewarper_models.data.annotations import Person
from posewarper_models.data.synthetic import SceneSettings, synthesise
from posewarper_models.draw import LABELLED, OTHER, OutputError, draw_people, overlay, write_video
from posewarper_models.panel import draw_warping, look_into, mean_displacement, mean_magnitude, with_heatmap
from posewarper_models.skeleton import COLOURS, JOINT
from posewarper_models.video import open_frames

BLACK = np.zeros((80, 100, 3), np.uint8)


def one_joint(visible: int, position: tuple[float, float] = (30.0, 20.0)) -> Person:
    keypoints = np.zeros((17, 3))
    keypoints[JOINT["left_wrist"]] = (*position, visible)
    return Person(0, (0.0, 0.0, 90.0, 70.0), keypoints)


@pytest.mark.parametrize("zoom", [1, 3])
def test_a_joint_is_drawn_in_its_place_and_colour(zoom: int) -> None:
    drawn = draw_people(BLACK, [one_joint(1)], zoom)
    assert drawn.shape == (80 * zoom, 100 * zoom, 3)
    y, x = drawn.any(axis=2).nonzero()
    np.testing.assert_allclose(
        (x.mean(), y.mean()), np.array([30.5, 20.5]) * zoom - 0.5, atol=0.4
    )  # below half a pixel
    assert tuple(drawn[round(20.5 * zoom - 0.5), round(30.5 * zoom - 0.5)]) == COLOURS[JOINT["left_wrist"]]


def test_a_hidden_joint_is_hollow() -> None:
    drawn = draw_people(BLACK, [one_joint(0)])
    assert drawn[20, 30].sum() == 0
    assert drawn.any()


def test_the_frame_itself_stays_as_it_is() -> None:
    frame = BLACK.copy()
    draw_people(frame, [one_joint(1)])
    assert not frame.any()


@pytest.mark.parametrize("position", [(-500.0, 20.0), (1e9, 1e9)])
def test_joints_far_outside_draw_nothing(position: tuple[float, float]) -> None:
    assert not draw_people(BLACK, [one_joint(1, position)]).any()


def test_an_overlay_marks_labelled_frames() -> None:
    clip = synthesise(SceneSettings(width=64, height=48, frames=3), 0)
    corners = [tuple(frame[0, 0]) for frame in overlay(clip, clip.labels, labelled=[1])]
    assert corners == [OTHER, LABELLED, OTHER]


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize("size", [(48, 64), (47, 63)], ids=["even", "odd"])
def test_videos_can_be_read_again(suffix: str, size: tuple[int, int], tmp_path: Path) -> None:
    frames = [np.full((*size, 3), value, np.uint8) for value in (40, 120, 200)]
    path = tmp_path / "new folder" / f"video{suffix}"
    write_video(frames, path, fps=10)
    read = list(open_frames(path))
    assert [round(float(frame.mean()), -1) for frame in read] == [40, 120, 200]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("name", "frames", "fps", "message"),
    [
        ("there.mp4", [BLACK], 10, "exists already"),
        ("new.avi", [BLACK], 10, r"is \.avi, should be \.mp4 or \.gif"),
        ("new.mp4", [], 10, "no frames"),
        ("new.mp4", [BLACK], 0, "fps is 0"),
    ],
)
def test_videos_that_cannot_be_written(
    name: str, frames: list[np.ndarray], fps: float, message: str, tmp_path: Path
) -> None:
    (tmp_path / "there.mp4").write_text("precious")
    with pytest.raises(OutputError, match=message):
        write_video(frames, tmp_path / name, fps)
    assert (tmp_path / "there.mp4").read_text() == "precious"


def test_a_video_that_was_interrupted_is_not_left_behind(tmp_path: Path) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield BLACK
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_video(failing(), tmp_path / "video.mp4", 10)
    assert not list(tmp_path.iterdir())


def test_the_displacement_of_an_identity_is_its_centre_taps_offset() -> None:
    warp = FusedDeformWarp(3, dilations=(1, 2), scale=0.5)
    offsets = [torch.zeros(2 * 9 * 3, 4, 5) for _ in range(2)]
    centre = 2 * (1 * 9 + 4)  # of channel 1: (dy, dx) at this and the next
    for offset, step in zip(offsets, (1.0, 3.0), strict=True):
        offset[centre], offset[centre + 1] = step, -step
    displacement = mean_displacement(warp, offsets)
    assert displacement.shape == (3, 2, 4, 5)
    torch.testing.assert_close(displacement[1], torch.stack([torch.full((4, 5), 2.0), torch.full((4, 5), -2.0)]))
    assert not displacement[[0, 2]].any()


def test_the_displacement_of_another_tap_counts_its_position() -> None:
    warp = FusedDeformWarp(1, dilations=(3,), scale=1.0)
    with torch.no_grad():
        warp.weight.zero_()
        warp.weight[0, 0, 0, 2, 0] = -0.7  # below, left
    displacement = mean_displacement(warp, [torch.zeros(18, 1, 1)])
    assert displacement.flatten().tolist() == [3, -3]


def test_the_magnitude_is_the_mean_length() -> None:
    offsets = torch.zeros(2 * 9, 2, 2)
    offsets[0], offsets[1] = 3.0, 4.0
    torch.testing.assert_close(mean_magnitude([offsets, torch.zeros_like(offsets)]), torch.full((2, 2), 5 / 18))


def test_a_heatmap_shines_in_the_joints_colour() -> None:
    heatmaps = np.zeros((17, 8, 8))
    heatmaps[JOINT["left_wrist"], 2:5, 2:5] = 1
    shown = with_heatmap(np.full((32, 32, 3), 100, np.uint8), heatmaps)
    assert tuple(shown[14, 14]) == COLOURS[JOINT["left_wrist"]]
    assert tuple(shown[30, 30]) == (60, 60, 60)


def test_a_panel_is_drawn_and_not_overwritten(tiny: PoseWarper, tmp_path: Path) -> None:
    torch.manual_seed(0)
    warping = look_into(tiny, torch.randn(3, 64, 64), torch.randn(3, 64, 64))
    torch.testing.assert_close(torch.from_numpy(warping.warped).float(), _warped_by_forward(tiny), rtol=1e-4, atol=1e-5)
    path = tmp_path / "panel.png"
    draw_warping(warping, path)
    picture = cv2.imread(str(path))
    assert picture.shape[1] > 1000
    assert picture.std() > 20
    with pytest.raises(OutputError, match="exists already"):
        draw_warping(warping, path)


def _warped_by_forward(model: PoseWarper) -> torch.Tensor:
    torch.manual_seed(0)
    reference, support = torch.randn(3, 64, 64), torch.randn(3, 64, 64)
    with torch.no_grad():
        return model(reference[None], support[None])[0]
