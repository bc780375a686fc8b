"""Average precision as poseval counts it, against cases counted by hand; and PCK."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from posewarper_models.commands.evaluate import evaluate as command
from posewarper_models.data.annotations import UNTRACKED, AnnotationError, FrameLabels, Labels, Person
from posewarper_models.data.posetrack import write_posetrack
from posewarper_models.data.synthetic import SceneSettings, synthesise
from posewarper_models.evaluate import average_precision, by_group, evaluate, joint_errors, without_given
from posewarper_models.skeleton import EVALUATED_JOINTS, JOINT, NUM_JOINTS

HEAD_BOX = (0.0, 0.0, 30.0, 40.0)  # a diagonal of 50, a head size of 30: right within 15 pixels
WRIST = JOINT["left_wrist"]


def person(
    x: float, track: int = 0, joints: Sequence[int] = range(NUM_JOINTS), score: float = 1.0, **moved: float
) -> Person:
    """Joints in a column at x, 100 pixels apart; ``moved`` shifts single ones to the right."""
    keypoints = np.zeros((NUM_JOINTS, 3))
    for joint in joints:
        keypoints[joint] = (x, 100 * joint + 50, 1)
    for name, shift in moved.items():
        keypoints[JOINT[name], 0] += shift
    return Person(track, (0.0, 0.0, 9.0, 9.0), keypoints, HEAD_BOX, np.full(NUM_JOINTS, score))


def labels(
    *frames: Sequence[Person], clip: str = "000001_toy", source: str = "test", version: str = "PoseTrack18"
) -> Labels:
    return Labels(
        clip,
        tuple(FrameLabels(i, f"images/val/{clip}/{i:06d}.jpg", tuple(people)) for i, people in enumerate(frames)),
        version,
        source,
    )


def wrist_ap(truth: Labels, prediction: Labels) -> float:
    return float(evaluate([truth], [prediction]).ap[WRIST])


def test_the_ground_truth_as_prediction_scores_100() -> None:
    clips = [synthesise(SceneSettings(width=96, height=80, frames=3), 0, index).labels for index in range(3)]
    result = evaluate(clips, clips)
    for values in (result.ap, result.precision, result.recall, *result.pck.values()):
        np.testing.assert_array_equal(values[list(EVALUATED_JOINTS)], 100)
    assert by_group(result.ap)["Mean"] == 100


@pytest.mark.parametrize(("shift", "expected"), [(15.0, 100.0), (15.1, 0.0)], ids=["on the limit", "just beyond"])
def test_right_is_within_half_a_head_size(shift: float, expected: float) -> None:
    assert wrist_ap(labels([person(0)]), labels([person(0, left_wrist=shift)])) == expected


def test_precision_falls_with_a_wrong_joint_of_higher_score() -> None:
    """The wrong wrist comes first: precision 1/2 at recall 1/2."""
    truth = labels([person(0)], [person(0)])
    prediction = labels([person(0, score=0.9, left_wrist=99)], [person(0, score=0.5)])
    assert wrist_ap(truth, prediction) == pytest.approx(100 * 0.5 * 0.5)


def test_a_wrong_joint_of_lower_score_costs_recall_only() -> None:
    truth = labels([person(0)], [person(0)])
    prediction = labels([person(0, score=0.9)], [person(0, score=0.5, left_wrist=99)])
    assert wrist_ap(truth, prediction) == pytest.approx(100 * 0.5)


def test_precision_is_made_monotonous() -> None:
    """Wrong, right, right: precisions 0, 1/2, 2/3 become 2/3 for both steps of recall."""
    truth = labels([person(0)], [person(0)], [person(0)])
    prediction = labels([person(0, score=0.9, left_wrist=99)], [person(0, score=0.8)], [person(0, score=0.7)])
    assert wrist_ap(truth, prediction) == pytest.approx(100 * (2 / 3) * (2 / 3))


def test_missed_people_cost_recall() -> None:
    assert wrist_ap(labels([person(0), person(500)]), labels([person(0)])) == pytest.approx(50)


def test_people_who_are_not_there_are_false_positives() -> None:
    """The invented one scores higher: precision 1/2 at the only step of recall."""
    prediction = labels([person(0, score=0.5), person(900, score=0.9)])
    assert wrist_ap(labels([person(0)]), prediction) == pytest.approx(50)


def test_of_two_predictions_of_a_person_the_better_counts() -> None:
    """The worse one has its wrist right, and it is a false positive all the same."""
    worse = person(0, track=1, score=0.9, left_knee=99, right_knee=99)
    assert wrist_ap(labels([person(0)]), labels([person(0, score=0.5), worse])) == pytest.approx(50)


def test_each_prediction_serves_one_person() -> None:
    """Two people stand close enough that one prediction is right for both; the second is missed."""
    assert wrist_ap(labels([person(0), person(20)]), labels([person(9)])) == pytest.approx(50)


def test_a_joint_that_is_not_annotated_makes_its_prediction_wrong() -> None:
    """As in poseval: the wrist of the second person is nowhere."""
    others = [joint for joint in range(NUM_JOINTS) if joint != WRIST]
    truth = labels([person(0)], [person(0, joints=others)])
    prediction = labels([person(0, score=0.5)], [person(0, score=0.9)])
    assert wrist_ap(truth, prediction) == pytest.approx(50)


def test_hidden_joints_count() -> None:
    truth, prediction = person(0), person(0, left_wrist=99)
    truth.keypoints[WRIST, 2] = 0
    assert wrist_ap(labels([truth]), labels([prediction])) == 0


def test_frames_without_annotated_people_are_left_out() -> None:
    prediction = labels([person(0, score=0.5)], [person(0, score=0.9)])
    result = evaluate([labels([person(0)], [])], [prediction])
    assert result.ap[WRIST] == 100
    assert result.frames == 1


def test_joints_in_regions_to_ignore_are_left_out() -> None:
    truth = labels([person(0), person(500)])
    region = np.array([(400.0, 0.0), (600.0, 0.0), (600.0, 3000.0), (400.0, 3000.0)])
    truth = replace(truth, frames=(replace(truth.frames[0], ignore_regions=(region,)),))
    prediction = labels([person(0, score=0.5), person(500, score=0.9, left_wrist=50), person(550, score=0.9)])
    result = evaluate([truth], [prediction])
    assert result.ap[WRIST] == 100
    assert result.people == 1


def test_ears_are_not_evaluated() -> None:
    assert np.isnan(evaluate([labels([person(0)])], [labels([person(0)])]).ap[JOINT["left_ear"]])


def test_ap_of_joints_that_nobody_has_is_no_number() -> None:
    others = [joint for joint in range(NUM_JOINTS) if joint != WRIST]
    result = evaluate([labels([person(0, joints=others)])], [labels([person(0)])])
    assert np.isnan(result.ap[WRIST])
    assert result.mean_ap == 100


def test_people_without_scores_are_certain() -> None:
    """A label that was given ranks before what was predicted, however sure: precision 1 at the first step of recall."""
    truth = labels([person(0)], [person(0)])
    given = replace(person(0), scores=None)
    found = labels([person(0, score=5.0, left_wrist=99)], [given])
    assert wrist_ap(truth, found) == pytest.approx(50)


def test_all_scores_alike_count_later_detections_first() -> None:
    assert average_precision([1, 1], [False, True], 2) == pytest.approx(0.5)
    assert average_precision([1, 1], [True, False], 2) == pytest.approx(0.25)


def test_the_mean_is_over_joints_and_not_over_groups() -> None:
    values = np.zeros(NUM_JOINTS)
    values[[JOINT["nose"], JOINT["head_bottom"], JOINT["head_top"]]] = 100
    groups = by_group(values)
    assert groups["Head"] == 100
    assert groups["Mean"] == pytest.approx(100 * 3 / 15)


def with_head(bottom: tuple[float, float], top: tuple[float, float]) -> Person:
    """Shoulders at (90, 100) and (110, 100), the nose at (100, 80)."""
    keypoints = np.zeros((NUM_JOINTS, 3))
    for name, point in {
        "left_shoulder": (110, 100),
        "right_shoulder": (90, 100),
        "nose": (100, 80),
        "head_bottom": bottom,
        "head_top": top,
    }.items():
        keypoints[JOINT[name]] = (*point, 1)
    return Person(0, (0.0, 0.0, 9.0, 9.0), keypoints, HEAD_BOX, np.ones(NUM_JOINTS))


@pytest.mark.parametrize(
    ("head", "bottom", "top"),
    [("annotated", (400, 400), (500, 500)), ("shoulders", (100, 100), (500, 500)), ("nose", (100, 100), (100, 60))],
)
def test_head_modes_derive_neck_and_top_of_the_head(
    head: str, bottom: tuple[float, float], top: tuple[float, float]
) -> None:
    result = evaluate([labels([with_head(bottom, top)])], [labels([with_head((400, 400), (500, 500))])], head=head)
    assert result.ap[[JOINT["head_bottom"], JOINT["head_top"]]].tolist() == [100, 100]
    assert f"head and neck: {head}" in result.setting


def test_a_neck_between_missing_shoulders_is_missing() -> None:
    prediction = person(0, joints=[JOINT["left_shoulder"], JOINT["nose"]])
    result = evaluate([labels([person(0)])], [labels([prediction])], head="nose")
    assert result.recall[JOINT["head_bottom"]] == 0
    assert np.isnan(result.precision[JOINT["head_bottom"]])


def test_pck_counts_missing_joints_and_people_as_wrong() -> None:
    truth = labels([person(0), person(300, track=1)], [person(0)])
    prediction = labels([person(0, left_wrist=5)], [person(0, left_wrist=10)])
    errors = joint_errors([truth], [prediction])
    np.testing.assert_allclose(sorted(errors.distances[:, WRIST]), [5 / 30, 10 / 30, np.inf])
    assert errors.pck(0.2)[WRIST] == pytest.approx(1 / 3)
    assert errors.pck(0.5)[WRIST] == pytest.approx(2 / 3)
    assert (errors.clips, errors.frames) == (("000001_toy",) * 3, (0, 0, 1))


def people(*tracks: int, missing: float = 0.0) -> list[Person]:
    """Side by side, with these track ids from left to right; ``missing`` pixels off."""
    return [person(300 * place + missing, track=track) for place, track in enumerate(tracks)]


def test_pck_follows_tracks() -> None:
    truth, found = labels(people(0, 1), people(0, 1), people(0, 1)), labels(people(0, 1), people(0, 1), people(1, 0))
    assert evaluate([truth], [found]).pck[0.5][WRIST] == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize("missing", [0.0, 99.0], ids=["right joints", "wrong joints"])
@pytest.mark.parametrize(
    ("annotated", "predicted", "reason"),
    [
        ((0, 1), (UNTRACKED, UNTRACKED), r"clip 000001_toy, frame 0 .*: track id -1 occurs 2 times in the predictions"),
        ((3, 3), (3, 4), r"clip 000001_toy, frame 0 .*: track id 3 occurs 2 times in the ground truth"),
        ((0, 1), (0, 7), r"clip 000001_toy: track ids 0, 7 in the predictions, 0, 1 in the ground truth"),
        ((0,), (7,), r"clip 000001_toy: track ids 7 in the predictions, 0 in the ground truth"),
    ],
)
def test_pck_is_not_stated_for_ids_of_another_origin(
    annotated: tuple[int, ...], predicted: tuple[int, ...], reason: str, missing: float
) -> None:
    result = evaluate([labels(people(*annotated))], [labels(people(*predicted, missing=missing))])
    assert result.pck is None
    assert re.search(reason, result.no_pck)


@pytest.mark.parametrize(("predicted", "own"), [((1, 0, 2), 2), ((1, 2, 0), 0), ((2, 1, 0), 2)])
def test_pck_is_not_stated_where_most_people_have_the_ids_of_others(predicted: tuple[int, ...], own: int) -> None:
    truth = labels(people(0, 1, 2), people(0, 1, 2))
    result = evaluate([truth], [labels(people(*predicted), people(*predicted))])
    assert result.mean_ap == 100
    assert result.pck is None
    assert f"clip 000001_toy: by their joints {6 - own} of 6 people have another's track id" in result.no_pck


def test_wrong_joints_say_nothing_about_ids() -> None:
    """Bad predictions keep their figure, which is what it says that they are."""
    truth = labels(people(0, 1))
    assert evaluate([truth], [labels(people(0, 1, missing=99))]).pck[0.5][WRIST] == 0


def test_a_track_that_has_left_does_not_cost_the_pck_of_the_others() -> None:
    """Propagated people may be where nobody is annotated any more; so may people of frames that were given."""
    truth = labels([person(0), person(300, track=1)], [person(0)])
    prediction = labels([person(0), person(300, track=1)], [person(0), person(300, track=1)])
    assert evaluate([truth], [prediction]).pck[0.5][WRIST] == 100
    rest = without_given([truth], [truth.keep_labelled([0])])
    assert evaluate(rest, [prediction]).pck[0.5][WRIST] == 100


def other_clip(truth: Labels) -> Labels:
    return replace(truth, clip="000002_other")


def renumbered(truth: Labels, first_name: int = 0) -> Labels:
    """Image ids of their own, and names from another number on."""
    frames = (
        replace(frame, image_id=77 - index, file_name=f"elsewhere/{truth.clip}/{first_name + index:06d}.png")
        for index, frame in enumerate(truth.frames)
    )
    return replace(truth, frames=tuple(frames))


def unlabelled(truth: Labels) -> Labels:
    return truth.keep_labelled([0])


def other_version(truth: Labels) -> Labels:
    return replace(truth, version="PoseTrack17")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (other_clip, "clip 000002_other is not in the ground truth"),
        (lambda truth: [], "clip 000001_toy of the ground truth is missing"),
        (lambda truth: renumbered(truth, 1), r"none for frame 0 \(images/val/000001_toy/000000\.jpg\)"),
        (unlabelled, r"none for frame 1 \(images/val/000001_toy/000001\.jpg\)"),
        (other_version, "ground truth is PoseTrack18, the predictions are PoseTrack17"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(wrong: Callable[[Labels], Labels], message: str) -> None:
    truth = labels([person(0)], [person(0)])
    prediction = wrong(truth)
    with pytest.raises(AnnotationError, match=message):
        evaluate([truth], [prediction] if isinstance(prediction, Labels) else prediction)


def test_frames_belong_together_by_name() -> None:
    """Image ids are anybody's, and a file may list fewer frames, or frames that the ground truth does not have."""
    truth = labels([person(0)], [person(100)], [person(200)])
    listed = replace(truth, frames=truth.frames[1:])
    assert evaluate([listed], [renumbered(truth)]).ap[WRIST] == 100


def test_frames_that_were_given_can_be_left_out() -> None:
    truth = labels([person(0)], [person(0)], [person(0)])
    given = renumbered(truth.keep_labelled([1]))
    assert without_given([truth], [given])[0].labelled == (0, 2)
    listed = replace(given, frames=given.frames[1:2])
    assert without_given([truth], [listed])[0].labelled == (0, 2)
    with pytest.raises(AnnotationError, match="ground truth is PoseTrack18, the given labels are PoseTrack17"):
        without_given([truth], [other_version(truth)])
    with pytest.raises(AnnotationError, match="clip 000002_other is not in the ground truth"):
        without_given([truth], [other_clip(truth)])


def test_ground_truth_without_head_boxes_is_refused() -> None:
    truth = labels([replace(person(0), head_box=None)])
    with pytest.raises(AnnotationError, match=r"clip 000001_toy, frame 0 .*without a head box"):
        evaluate([truth], [truth])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    truth = labels([person(10), person(300, track=1)], source="by hand")
    prediction = labels([person(10, left_wrist=99), person(300, track=1)], source="guessed")
    write_posetrack([truth], tmp_path / "truth.json")
    write_posetrack([prediction], tmp_path / "guess.json")
    return tmp_path / "truth.json", tmp_path / "guess.json"


def test_the_command_names_everything_a_number_depends_on(files: tuple[Path, Path], tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    out = tmp_path / "results" / "numbers.json"
    result = CliRunner().invoke(
        app, [*map(str, files), "--boxes", "by hand", "--out", str(out)], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    for part in ("PoseTrack18, by hand", "PoseTrack18, guessed", "boxes: by hand", "neck: annotated", "PCK@0.2"):
        assert part in result.output
    numbers = json.loads(out.read_text())
    assert numbers["AP"]["Wrist"] == pytest.approx(75)
    assert numbers["AP"]["Knee"] == 100
    left = CliRunner().invoke(app, [*map(str, files), "--given", str(files[0])])
    assert "no labelled frame with people" in str(left.exception)
    strange = labels([person(10, track=7), person(300, track=8)])
    write_posetrack([strange], files[1])
    without = CliRunner().invoke(app, [*map(str, files)], env={"COLUMNS": "200"})
    assert "PCK: not stated" in without.output
    assert "track ids 7, 8 in the predictions, 0, 1 in the ground truth" in without.output
    again = CliRunner().invoke(app, [*map(str, files), "--out", str(out)])
    assert again.exit_code == 2
    assert "exists" in again.output
