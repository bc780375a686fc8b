"""What makes the experiments fair: the same joints, scores and videos for all methods; intervals; baselines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deformwarp import FusedDeformWarp
from posewarper_models.data.annotations import Clip, FrameLabels, Labels, Person
from posewarper_models.evaluate import JointErrors, joint_errors
from posewarper_models.experiments.backends import TorchvisionWarp
from posewarper_models.experiments.comparison import (
    Task,
    by_distance,
    by_visibility,
    held_to,
    propagated_by,
    scored_alike,
    task,
)
from posewarper_models.experiments.labels import drawn
from posewarper_models.experiments.motion import SIZES, told, told_where_nothing_moves
from posewarper_models.experiments.offsets import Joints, fit, with_flow_as_features
from posewarper_models.experiments.tables import Page
from posewarper_models.experiments.tallies import Ratio, interval, spread, tally
from posewarper_models.experiments.training import Drawn
from posewarper_models.experiments.videos import strided
from posewarper_models.flow import FLOWS, by_flow
from posewarper_models.skeleton import NUM_JOINTS
from posewarper_models.video import ArrayFrames

STEP = np.array([2.0, 1.0])  # pixels a frame
SIZE = (64, 64)


@pytest.fixture
def walking() -> Clip:
    """One person on noise who moves by STEP a frame, except that in frame 2 joint 16 is far away."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (8, 96, 128, 3), np.uint8)
    first = np.stack([np.linspace(30, 60, NUM_JOINTS), np.linspace(20, 60, NUM_JOINTS)], axis=1)
    frames = []
    for index in range(8):
        keypoints = np.concatenate([first + index * STEP, np.ones((NUM_JOINTS, 1))], axis=1)
        if index == 2:
            keypoints[16, :2] = (126, 94)
        x, y = first.min(axis=0) + index * STEP
        person = Person(5, (x, y, 30.0, 40.0), keypoints, (x, y, 6.0, 8.0))
        frames.append(FrameLabels(100 + index, f"a/clip/{index:06d}.jpg", (person,)))
    return Clip(Labels("clip", tuple(frames), "PoseTrack18", "test"), ArrayFrames(images))


def test_joints_that_leave_the_crop_do_not_count(walking: Clip) -> None:
    truth = task(walking, 7, SIZE).truth
    assert truth.labelled == (1, 2, 3, 4, 5, 6)  # 0 and 7 are given
    assert not truth.frames[2].people[0].annotated[16]
    assert truth.frames[1].people[0].annotated.all()


def test_joints_that_are_not_annotated_where_the_label_is_do_not_count(walking: Clip) -> None:
    frames = list(walking.labels.frames)
    person = frames[0].people[0]
    unknown = person.keypoints.copy()
    unknown[3] = 0
    frames[0] = replace(frames[0], people=(replace(person, keypoints=unknown),))
    truth = task(walking.relabelled(replace(walking.labels, frames=tuple(frames))), 7, SIZE).truth
    assert not truth.frames[1].people[0].annotated[3]
    assert truth.frames[6].people[0].annotated[3]  # takes its label from frame 7


def test_predictions_are_held_to_the_joints_of_the_truth(walking: Clip) -> None:
    made = task(walking, 7, SIZE)
    held = held_to(made.truth, propagated_by(by_flow(FLOWS["copy"]), "copy", made))
    for known, found in zip(made.truth.frames, held.frames, strict=True):
        assert len(known.people) == len(found.people)
        for ours, theirs in zip(known.people, found.people, strict=True):
            np.testing.assert_array_equal(ours.annotated, theirs.annotated)


def test_copied_labels_are_found_as_long_as_people_are_near(walking: Clip) -> None:
    made = task(walking, 7, SIZE)
    found = by_distance([made], [held_to(made.truth, propagated_by(by_flow(FLOWS["copy"]), "copy", made))])
    # A head size is 6 pixels: half of it is more than one step of 2.2 pixels, and less than two.
    assert [found.share(0.5, category).value for category in found.categories] == [1.0, 0.0, 0.0]
    assert found.count.sum(axis=(0, 2)).tolist() == [30, 29, 30]


def moved_by(share: float, made: Task) -> Labels:
    """Labels that have gone a share of the way."""
    frames = list(made.clip.labels.frames)
    for target in made.truth.labelled:
        source = 0 if target <= 3 else 7
        person = frames[source].people[0]
        way = np.append((target - source) * STEP * share, 0)
        frames[target] = replace(frames[target], people=(replace(person, keypoints=person.keypoints + way),))
    return replace(made.clip.labels, frames=tuple(frames))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_of_the_motion_that_is_told_is_by_the_size_of_the_motion(walking: Clip, share: float) -> None:
    made = task(walking, 7, SIZE)
    sums = {name: np.array(values)[0] for name, values in told([made], [moved_by(share, made)]).items()}
    assert SIZES == ("below 0.2", "0.2 to 0.5", "0.5 to 1", "above 1")
    assert sums["count"].tolist() == [0, 30, 29, 30]  # 0.37 head sizes a frame
    np.testing.assert_allclose(sums["along"][1:] / sums["square"][1:], share, atol=1e-5)
    # Half of 0.37 head sizes is within 0.2 of all of it, half of 0.75 is not.
    assert sums["close"].tolist() == {0.0: [0, 0, 0, 0], 0.5: [0, 30, 0, 0], 1.0: [0, 30, 29, 30]}[share]


def test_hidden_joints_tell_no_motion(walking: Clip) -> None:
    made = task(walking, 7, SIZE)
    frames = list(made.clip.labels.frames)
    person = frames[0].people[0]
    keypoints = person.keypoints.copy()
    keypoints[[9, 10], 2] = 0
    frames[0] = replace(frames[0], people=(replace(person, keypoints=keypoints),))
    hidden = replace(made, clip=made.clip.relabelled(replace(made.clip.labels, frames=tuple(frames))))
    assert np.sum(told([hidden], [moved_by(1.0, made)])["count"]) == 89 - 3 * 2


def test_a_propagator_is_held_to_labels_that_do_not_move(walking: Clip) -> None:
    made = task(walking, 7, SIZE)
    assert told_where_nothing_moves([made], by_flow(FLOWS["copy"])) == {"count": [30], "close": [30]}


def test_scores_depend_on_the_position_and_not_on_the_method(walking: Clip, tiny: torch.nn.Module) -> None:
    made = task(walking, 7, SIZE)
    tiny.architecture["image_size"] = list(SIZE)
    copied = held_to(made.truth, propagated_by(by_flow(FLOWS["copy"]), "copy", made))
    one, other, truth = scored_alike(
        tiny, made.clip.frames, made.truth, [copied, replace(copied, source="x"), made.truth]
    )
    scores = [person.scores for labels in (one, other, truth) for person in labels.frames[3].people]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.abs(scores[0] - scores[2]).max() > 1e-3


def test_a_stride_takes_frames_and_labels_together(walking: Clip) -> None:
    faster = strided(walking, 3)
    assert [frame.image_id for frame in faster.labels.frames] == [100, 103, 106]
    np.testing.assert_array_equal(faster.frames[2], walking.frames[6])
    with pytest.raises(IndexError, match="frame 3 of 3"):
        faster.frames[3]


def test_tallies_count_by_video_category_and_group() -> None:
    distances = np.full((3, NUM_JOINTS), np.nan)
    distances[0, [9, 10]] = 0.1, 0.3  # wrists
    distances[1, 9] = 0.6
    distances[2, 9] = np.inf
    errors = JointErrors(("a", "b", "b"), (0, 0, 1), (1, 1, 1), distances, distances > 0)
    of_joint = np.repeat([[0], [1], [-1]], NUM_JOINTS, axis=1)
    found = tally(errors, of_joint, ["near", "far"], ["a", "b", "c"])
    assert found.share(0.5, "near", "Wrist").above.tolist() == [2, 0, 0]
    assert found.share(0.2, "near", "Wrist").above.tolist() == [1, 0, 0]
    assert found.share(0.5).below.tolist() == [2, 1, 0]
    assert found.share(0.5, group="Knee").below.sum() == 0
    again = type(found).from_json(found.to_json())
    assert again.share(0.2).above.tolist() == found.share(0.2).above.tolist()


def test_hidden_joints_are_counted_by_themselves(walking: Clip) -> None:
    made = task(walking, 7, SIZE)
    frames = list(made.truth.frames)
    person = frames[3].people[0]
    keypoints = person.keypoints.copy()
    keypoints[[9, 10], 2] = 0  # wrists
    frames[3] = replace(frames[3], people=(replace(person, keypoints=keypoints),))
    truth = [replace(made.truth, frames=tuple(frames))]
    found = by_visibility(joint_errors(truth, [made.truth]), truth)
    assert found.count.sum(axis=(0, 2)).tolist() == [87, 2]
    assert found.share(0.2, "hidden", "Wrist").above.tolist() == [2]


def test_fewer_videos_are_among_more_and_drawn_by_the_seed() -> None:
    clips = list(range(20))
    few, more = (drawn(clips, count, seed=0) for count in (5, 12))  # type: ignore[arg-type]
    assert few == more[:5]
    assert len(set(more)) == 12
    assert set(few) != set(drawn(clips, 5, seed=1))  # type: ignore[arg-type]


def ratios(*shares: float, videos: int = 40, noise: float = 0.0) -> list[Ratio]:
    rng = np.random.default_rng(1)
    return [
        Ratio(np.clip(share + noise * rng.standard_normal(videos), 0, 1) * 10, np.full(videos, 10.0))
        for share in shares
    ]


def test_intervals_cover_the_value_and_shrink_with_more_videos() -> None:
    few, many = (interval(ratios(0.5, videos=n, noise=0.2), resamplings=500) for n in (20, 500))
    assert few.low < few.value < few.high
    assert many.high - many.low < 0.5 * (few.high - few.low)
    # The standard error of the mean of 500 videos is 0.2 / sqrt(500); the interval has four of it.
    assert many.high - many.low == pytest.approx(4 * 0.2 / 500**0.5, rel=0.25)


def test_differences_are_of_the_same_videos() -> None:
    ours = ratios(0.5, noise=0.2)
    theirs = [Ratio(ratio.above - 0.5, ratio.below) for ratio in ours]
    found = interval(ours, theirs, resamplings=200)
    assert (found.low, found.high) == pytest.approx((0.05, 0.05))
    assert found.excludes_zero
    assert not interval(ours, ours, resamplings=200).excludes_zero


def test_seeds_are_averaged_and_their_spread_is_told() -> None:
    assert interval(ratios(0.4, 0.6), resamplings=50).value == pytest.approx(0.5)
    assert spread(ratios(0.4, 0.6)) == pytest.approx(0.1 * 2**0.5)
    assert np.isnan(spread(ratios(0.4)))


def test_intervals_tell_what_other_trainings_would_have_changed() -> None:
    found = interval(ratios(0.4, 0.5, 0.6), resamplings=500)
    assert (found.low, found.high) == pytest.approx((0.4, 0.6), abs=0.04)


def test_differences_are_of_the_same_seeds() -> None:
    found = interval(ratios(0.5, 0.7), ratios(0.4, 0.6), resamplings=200)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert spread(ratios(0.5, 0.7), ratios(0.4, 0.6)) == pytest.approx(0.0)
    assert spread(ratios(0.5, 0.7), ratios(0.4, 0.5)) == pytest.approx(0.1 / 2**0.5)


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        ([0.5], [0.4], "+10.0 [+10.0, +10.0]"),
        ([0.5, 0.7], [0.4, 0.6], "+10.0 [+10.0, +10.0] ± 0.0"),
        ([0.5, 0.7, 0.6], [0.4, 0.6, 0.5], "**+10.0 [+10.0, +10.0] ± 0.0**"),
        ([0.5, 0.7, 0.6], [0.5, 0.7, 0.6], "+0.0 [+0.0, +0.0] ± 0.0"),
    ],
    ids=["one seed", "two seeds", "three seeds", "no difference"],
)
def test_a_difference_is_bold_where_three_seeds_stand_behind_it(
    ours: list[float], theirs: list[float], text: str, tmp_path: Path
) -> None:
    assert Page(tmp_path, "", resamplings=50).difference(ratios(*ours), ratios(*theirs)) == text


def test_the_regression_finds_a_linear_map() -> None:
    rng = np.random.default_rng(0)
    count = 600
    joint, features = rng.integers(0, 2, count), rng.standard_normal((count, 4))
    maps = rng.standard_normal((2, 4, 2))
    motion = np.einsum("nf,nfd->nd", features, maps[joint]) + 1.5
    ones = np.ones(count)
    joints = Joints(joint, features, motion, ones, motion, ones.astype(int), rng.integers(0, 6, count))
    found = fit(joints)
    np.testing.assert_allclose(found.weights[:2], maps, atol=1e-3)
    np.testing.assert_allclose(found.motion(joints), motion, atol=1e-2)


def test_a_regression_on_flow_mends_what_is_linear_in_it() -> None:
    rng = np.random.default_rng(0)
    flow = rng.standard_normal((400, 2))
    shrunk = 0.5 * flow + 1.0
    zeros, noise, video = np.zeros(400, np.int64), rng.standard_normal((400, 18)), rng.integers(0, 6, 400)
    joints = Joints(zeros, noise, shrunk, zeros + 1.0, flow, zeros + 1, video)
    of_flow = with_flow_as_features(joints)
    np.testing.assert_allclose(fit(of_flow).motion(of_flow), shrunk, atol=0.01)
    assert np.abs(fit(joints).motion(joints) - shrunk).mean() > 0.1


@pytest.mark.parametrize("dilations", [(2,), (1, 3, 5)], ids=str)
def test_five_calls_are_the_warp(dilations: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    warp = FusedDeformWarp(3, dilations=dilations, scale=0.25).double()
    torch.nn.init.normal_(warp.weight)
    image = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    offsets = [3 * torch.randn(2, 54, 9, 7, dtype=torch.float64) for _ in dilations]
    torch.testing.assert_close(TorchvisionWarp(warp)(image, offsets), warp(image, offsets))


def test_samples_are_drawn_by_the_generator_from_all_that_there_are() -> None:
    drawn = Drawn(list(range(5)), 100)  # type: ignore[arg-type]
    torch.manual_seed(0)
    first = [drawn[index] for index in range(len(drawn))]
    torch.manual_seed(0)
    assert [drawn[index] for index in range(len(drawn))] == first
    assert set(first) == set(range(5))
