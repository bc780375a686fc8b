"""Labels moved by optical flow."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from posewarper_models.data.annotations import Clip, FrameLabels, Labels, Person
from posewarper_models.data.synthetic.textures import noise
from posewarper_models.flow import FLOWS, Dis, Flow, by_flow, moved
from posewarper_models.propagate import propagated
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


def people_at(clip: Clip, flow: Flow, chained: bool = False, reach: int = 3) -> dict[int, Person]:
    return {frame: people[0] for frame, people in propagated(clip, by_flow(flow, chained=chained), reach)}


@pytest.mark.parametrize("chained", [False, True], ids=["direct", "chained"])
@pytest.mark.parametrize("flow", ["farneback", "dis"])
def test_joints_follow_the_texture(flow: str, chained: bool, drifting: Clip) -> None:
    source = drifting.labels.frames[3].people[0]
    found = people_at(drifting, FLOWS[flow], chained)
    assert set(found) == {0, 1, 2, 4, 5, 6}
    for frame, person in found.items():
        np.testing.assert_array_equal(person.annotated, source.annotated)
        expected = source.keypoints[:, :2] + (frame - 3) * np.array(STEP)
        np.testing.assert_allclose(person.keypoints[source.annotated, :2], expected[source.annotated], atol=0.5)
        assert person.track_id == 7
        np.testing.assert_allclose(person.box[:2], np.array([25, 15]) + (frame - 3) * np.array(STEP), atol=0.5)


def test_copied_labels_stay(drifting: Clip) -> None:
    source = drifting.labels.frames[3].people[0]
    for person in people_at(drifting, FLOWS["copy"]).values():
        np.testing.assert_array_equal(person.keypoints[:, :2], source.keypoints[:, :2])


def test_frames_too_far_away_get_nothing(drifting: Clip) -> None:
    assert set(people_at(drifting, FLOWS["copy"], reach=2)) == {1, 2, 4, 5}


def test_chained_flow_adds_up_steps_and_direct_flow_does_not(drifting: Clip) -> None:
    def one_pixel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.full((*first.shape[:2], 2), (1, 0), np.float32)

    source = drifting.labels.frames[3].people[0].keypoints[0, 0]
    for chained, expected in ((True, 3), (False, 1)):
        found = people_at(drifting, one_pixel, chained)
        assert found[6].keypoints[0, 0] == pytest.approx(source + expected)


def test_flow_is_read_between_pixels_and_continued_outside() -> None:
    flow = np.zeros((4, 6, 2), np.float32)
    flow[..., 0] = np.arange(6)
    points = np.array([(2.5, 1.0), (-3.0, 0.0), (9.0, 3.0)])
    np.testing.assert_allclose(moved(points, flow) - points, [(2.5, 0), (0, 0), (5, 0)], atol=0.02)


def test_the_defaults_of_dis_are_the_presets_at_full_resolution() -> None:
    preset = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    ours = Dis()
    assert (ours.patch, ours.stride) == (preset.getPatchSize(), preset.getPatchStride())
    assert (ours.finest_scale, preset.getFinestScale()) == (0, 1)


def test_the_stride_of_dis_is_what_it_is_asked_for(drifting: Clip) -> None:
    first, second = drifting.frames[0], drifting.frames[3]
    assert not np.array_equal(Dis(stride=2)(first, second), Dis(stride=4)(first, second))
