"""Crops: one affine map for pixels and joints, there and back."""

from __future__ import annotations

import numpy as np
import pytest

from posewarper_models.data.annotations import AnnotationError, Person
from posewarper_models.data.crops import Augmentation, crop_around, denormalised, normalised
from posewarper_models.skeleton import JOINT, LOWER_BODY, UPPER_BODY

BOX = (30.0, 20.0, 40.0, 60.0)
CROPS = {
    "plain": {},
    "turned": {"rotation": 37.0},
    "zoomed": {"zoom": 0.7},
    "mirrored": {"mirrored": True},
    "all": {"rotation": -20.0, "zoom": 1.3, "mirrored": True},
}


@pytest.fixture
def person() -> Person:
    rng = np.random.default_rng(0)
    keypoints = np.concatenate([rng.uniform((30, 20), (70, 80), (17, 2)), np.ones((17, 1))], axis=1)
    return Person(0, BOX, keypoints)


@pytest.mark.parametrize("how", CROPS)
def test_a_drawn_point_is_where_its_coordinates_go(how: str) -> None:
    crop = crop_around(BOX, (128, 96), **CROPS[how])
    point = np.array([44.0, 61.0])
    frame = np.zeros((100, 100, 3), np.uint8)
    frame[61, 44] = 255
    seen = crop.pixels(frame)[..., 0].astype(float)
    y, x = np.mgrid[:128, :96]
    centre = np.array([(x * seen).sum(), (y * seen).sum()]) / seen.sum()
    np.testing.assert_allclose(centre, crop.from_frame(point), atol=0.15)


@pytest.mark.parametrize("how", CROPS)
def test_joints_go_there_and_back(how: str, person: Person) -> None:
    crop = crop_around(BOX, (128, 96), **CROPS[how])
    for mapped in (crop, crop.heatmap):
        there = mapped.keypoints_from_frame(person.keypoints)
        np.testing.assert_allclose(mapped.keypoints_to_frame(there), person.keypoints, atol=1e-9)


def test_a_mirrored_left_wrist_is_a_right_wrist(person: Person) -> None:
    plain, mirrored = (crop_around(BOX, (128, 96), mirrored=flip) for flip in (False, True))
    left = plain.keypoints_from_frame(person.keypoints)[JOINT["left_wrist"]]
    right = mirrored.keypoints_from_frame(person.keypoints)[JOINT["right_wrist"]]
    np.testing.assert_allclose(right[:2], (96 - left[0], left[1]))


@pytest.mark.parametrize(
    ("box", "expected"), [((0, 0, 60, 80), 128 / 100), ((0, 0, 120, 80), 96 / 150)], ids=["tall", "wide"]
)
def test_the_box_fits_with_a_quarter_more(box: tuple[float, ...], expected: float) -> None:
    """Sides keep their ratio: the side that would not fit decides."""
    assert crop_around(box, (128, 96)).matrix[0, 0] == pytest.approx(expected)


def test_rotation_is_clockwise() -> None:
    crop = crop_around(BOX, (128, 96), rotation=90)
    centre, right_of_it = crop.from_frame(np.array([[50.0, 50.0], [60.0, 50.0]]))
    assert right_of_it[0] == pytest.approx(centre[0])
    assert right_of_it[1] > centre[1]


def test_a_heatmap_is_a_quarter_of_the_crop(person: Person) -> None:
    crop = crop_around(BOX, (128, 96))
    assert crop.heatmap.size == (32, 24)
    np.testing.assert_allclose(
        crop.heatmap.from_frame(person.keypoints[:, :2]) * 4, crop.from_frame(person.keypoints[:, :2])
    )


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (0, 0, 5, -1), (0, 0, float("nan"), 5)])
def test_empty_boxes_are_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(AnnotationError, match=r"box: .* positive width and height"):
        crop_around(box)


@pytest.mark.parametrize("size", [(100, 96), (96, 100), (0, 96)])
def test_sizes_that_are_no_multiples_of_32_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        crop_around(BOX, size)


def test_normalised_images_come_back() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    assert normalised(image).shape == (3, 8, 6)
    np.testing.assert_array_equal(denormalised(normalised(image)), image)


def test_random_crops_stay_within_what_was_asked_for(person: Person) -> None:
    rng = np.random.default_rng(0)
    augmentation = Augmentation(rotation=30, scale=0.25, flip=0.5, half_body=0.0)
    plain = crop_around(BOX, (128, 96)).matrix[0, 0]
    zooms, angles, mirrored = [], [], []
    for _ in range(300):
        crop = augmentation.crop(person, (128, 96), rng)
        turn = crop.matrix[:, :2] * (-1 if crop.mirrored else 1, 1)
        zooms.append(np.sqrt(np.linalg.det(turn)) / plain)
        angles.append(np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0])))
        mirrored.append(crop.mirrored)
    assert min(zooms) == pytest.approx(1 / 1.25)
    assert max(zooms) == pytest.approx(1 / 0.75)
    assert np.max(np.abs(angles)) <= 60.001
    assert np.isclose(angles, 0).mean() == pytest.approx(0.4, abs=0.1)
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.1)


def test_half_bodies_are_centred_on_half_of_the_joints(person: Person) -> None:
    augmentation = Augmentation(rotation=0, scale=0, flip=0, half_body=1.0)
    rng = np.random.default_rng(0)
    centres = {
        tuple(augmentation.crop(person, (128, 96), rng).to_frame(np.array([48.0, 64.0])).round(6)) for _ in range(20)
    }
    halves = {tuple(person.keypoints[list(half), :2].mean(axis=0).round(6)) for half in (UPPER_BODY, LOWER_BODY)}
    assert centres == halves


def test_people_of_whom_little_is_seen_are_not_halved(person: Person) -> None:
    person.keypoints[8:, 2] = 0
    augmentation = Augmentation(rotation=0, scale=0, flip=0, half_body=1.0)
    crop = augmentation.crop(person, (128, 96), np.random.default_rng(0))
    np.testing.assert_allclose(crop.to_frame(np.array([48.0, 64.0])), (50, 50))
