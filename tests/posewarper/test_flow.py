"""Labels moved by optical flow."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from posewarper_models.data.annotations import Clip, FrameLabels, Labels, Person
from posewarper_models.data.synthetic.textures import noise
from posewarper_models.flow import FLOWS, moved, propagate
from posewarper_models.video import ArrayFrames

STEP = (1.5, -0.75)  # pixels a frame


@pytest.fixture(scope="module")
def drifting() -> Clip:
    """A texture that drifts by STEP from frame to frame, one person on it, labelled in frame 3 of 7."""
    texture = (255 * noise(np.random.default_rng(0), 120, 160, 16)).astype(np.uint8)
    images = []
    for frame in range(7):
        shift = np.array([[1, 0, STEP[0] * (frame - 3) - 20], [0, 1, STEP[1] * (frame - 3) - 20]])
        images.append(cv2.warpAffine(texture, shift, (120, 80)))
    keypoints = np.stack([np.linspace(30, 90, 17), np.linspace(20, 60, 17), np.ones(17)], axis=1)
    keypoints[4] = 0
    keypoints[5, 2] = 0
    people = (Person(7, (25.0, 15.0, 70.0, 50.0), keypoints),)
    frames = (FrameLabels(i, f"a/clip/{i:06d}.jpg", people, labelled=i == 3) for i in range(7))
    labels = Labels("clip", tuple(frames), "PoseTrack18", "test").keep_labelled([3])
    return Clip(labels, ArrayFrames(np.repeat(np.stack(images)[..., None], 3, axis=3)))


@pytest.mark.parametrize("chained", [False, True], ids=["direct", "chained"])
@pytest.mark.parametrize("flow", ["farneback", "dis"])
def test_joints_follow_the_texture(flow: str, chained: bool, drifting: Clip) -> None:
    labels = propagate(drifting, FLOWS[flow], chained=chained)
    source = drifting.labels.frames[3].people[0]
    for frame in range(7):
        (person,) = labels.frames[frame].people
        joints = source.annotated
        expected = source.keypoints[joints, :2] + (frame - 3) * np.array(STEP)
        np.testing.assert_allclose(person.keypoints[joints, :2], expected, atol=0.5)
        np.testing.assert_array_equal(person.visible, source.visible)
        assert person.track_id == 7
        np.testing.assert_allclose(person.box[:2], np.array([25, 15]) + (frame - 3) * np.array(STEP), atol=0.5)


def test_copied_labels_stay(drifting: Clip) -> None:
    labels = propagate(drifting, FLOWS["copy"])
    assert labels.source == "propagated directly by still"
    for frame in labels.frames:
        np.testing.assert_array_equal(frame.people[0].keypoints, drifting.labels.frames[3].people[0].keypoints)


def test_frames_too_far_away_stay_unlabelled(drifting: Clip) -> None:
    assert propagate(drifting, FLOWS["copy"], max_delta=2).labelled == (1, 2, 3, 4, 5)


def test_chained_flow_adds_up_steps_and_direct_flow_does_not(drifting: Clip) -> None:
    def one_pixel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.full((*first.shape[:2], 2), (1, 0), np.float32)

    source = drifting.labels.frames[3].people[0].keypoints[0, 0]
    for chained, expected in ((True, 3), (False, 1)):
        labels = propagate(drifting, one_pixel, chained=chained)
        assert labels.frames[6].people[0].keypoints[0, 0] == pytest.approx(source + expected)


def test_joints_that_leave_the_image_are_lost(drifting: Clip) -> None:
    def far(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.full((*first.shape[:2], 2), (60, 0), np.float32)

    person = propagate(drifting, far).frames[4].people[0]
    stay = drifting.labels.frames[3].people[0].keypoints[:, 0] + 60 < 119.5
    np.testing.assert_array_equal(person.annotated, stay & drifting.labels.frames[3].people[0].annotated)


def test_flow_is_read_between_pixels_and_continued_outside() -> None:
    flow = np.zeros((4, 6, 2), np.float32)
    flow[..., 0] = np.arange(6)
    points = np.array([(2.5, 1.0), (-3.0, 0.0), (9.0, 3.0)])
    np.testing.assert_allclose(moved(points, flow) - points, [(2.5, 0), (0, 0), (5, 0)], atol=0.02)
    assert moved(np.zeros((0, 2)), flow).shape == (0, 2)
