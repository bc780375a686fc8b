"""Synthetic clips: determined by the seed, labelled where the pixels are, hard where the settings say so."""

from __future__ import annotations

import numpy as np
import pytest

from posewarper_models.data.annotations import Clip
from posewarper_models.data.synthetic import SceneSettings, synthesise
from posewarper_models.skeleton import JOINT

SMALL = SceneSettings(width=96, height=80, frames=4, people_max=2)


def images(clip: Clip) -> np.ndarray:
    return np.stack(list(clip.frames))


def keypoints(clip: Clip, frame: int) -> np.ndarray:
    return np.stack([person.keypoints for person in clip.labels.frames[frame].people])


def changed(**changes: object) -> SceneSettings:
    return SceneSettings(**{**vars(SMALL), **changes})


def test_the_same_seed_gives_the_same_clip() -> None:
    first, second = synthesise(SMALL, 5, 3), synthesise(SMALL, 5, 3)
    np.testing.assert_array_equal(images(first), images(second))
    for frame in range(SMALL.frames):
        np.testing.assert_array_equal(keypoints(first, frame), keypoints(second, frame))


@pytest.mark.parametrize(("seed", "index"), [(5, 4), (6, 3)])
def test_another_seed_or_number_gives_another_clip(seed: int, index: int) -> None:
    assert (images(synthesise(SMALL, 5, 3)) != images(synthesise(SMALL, seed, index))).mean() > 0.5


@pytest.mark.parametrize("seed", range(6))
def test_labels_are_valid_posetrack_labels(seed: int) -> None:
    clip = synthesise(SMALL, seed)
    for frame in clip.labels.frames:
        for person in frame.people:
            points = person.keypoints[person.annotated]
            assert ((points[:, :2] >= -0.5) & (points[:, :2] < (95.5, 79.5))).all()
            x, y, width, height = person.box
            assert width > 0
            assert height > 0
            assert x >= 0
            assert y >= 0
            assert x + width <= 95
            assert y + height <= 79
            assert person.visible.sum() >= 4
            assert person.head_box is not None


def test_a_visible_nose_has_the_colour_of_skin() -> None:
    settings = changed(people_max=1, occluders=0.0, lighting=0.0, noise=0.0, width=160, height=160, frames=1)
    redder = []
    for seed in range(30):
        clip = synthesise(settings, seed)
        for person in clip.labels.frames[0].people:
            x, y, visible = person.keypoints[JOINT["nose"]]
            if visible:
                red, _, blue = clip.frames[0][round(y), round(x)].astype(float)
                redder.append(red > 1.1 * blue)
    assert len(redder) >= 10
    assert np.mean(redder) > 0.9


def test_figures_hide_their_own_joints_and_each_others() -> None:
    joints = np.concatenate([keypoints(synthesise(SMALL, seed), 0) for seed in range(8)])
    annotated = (joints != 0).any(axis=2)
    hidden = annotated & (joints[:, :, 2] == 0)
    assert 0.05 < hidden.sum() / annotated.sum() < 0.6


def test_a_larger_stride_takes_frames_that_are_further_apart() -> None:
    dense, sparse = (synthesise(changed(stride=stride, lighting=0.0), 1) for stride in (1, 3))
    assert sparse.fps == pytest.approx(dense.fps / 3)
    steps = [np.abs(np.diff(images(clip).astype(float), axis=0)).mean() for clip in (dense, sparse)]
    assert steps[1] > steps[0]


@pytest.mark.parametrize("parameter", ["speed", "shutter", "lighting", "noise", "contrast", "camera"])
def test_every_physical_parameter_changes_the_frames(parameter: str) -> None:
    other = changed(**{parameter: 3 * getattr(SMALL, parameter)})
    assert (images(synthesise(SMALL, 2)) != images(synthesise(other, 2))).mean() > 0.01


def test_a_longer_shutter_blurs() -> None:
    def sharpness(shutter: float) -> float:
        settings = changed(shutter=shutter, noise=0.0, speed=2.0, width=128, height=128)
        clips = images(synthesise(settings, 3)).astype(float)
        return float(np.abs(np.diff(clips, axis=2)).mean())

    assert sharpness(0.04) < 0.95 * sharpness(0.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 8}, "width: is 8, should be at least 32"),
        ({"frames": 0}, "frames: is 0, should be at least 1"),
        ({"shutter": float("nan")}, "shutter: is nan"),
        ({"people_min": 3, "people_max": 2}, "people_max: is 2, should be from people_min = 3"),
        ({"people_max": 99}, "people_max: is 99"),
        ({"actions": ("fly",)}, "actions: fly; there are walk, wave, turn"),
    ],
)
def test_settings_that_make_no_scene_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneSettings(**wrong)
