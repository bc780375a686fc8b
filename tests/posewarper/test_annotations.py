"""PoseTrack's files: read, written, and refused with a message that names file and field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posewarper_models.data.annotations import UNTRACKED, AnnotationError, FrameLabels, Labels, Person
from posewarper_models.data.posetrack import FIRST_FRAME, VERSIONS, open_clips, read_posetrack, write_posetrack
from posewarper_models.skeleton import JOINTS

Edit = Callable[[dict[str, Any]], object]


def some_keypoints() -> np.ndarray:
    keypoints = np.stack([np.arange(17) * 3.0 + 5, np.arange(17) * 2.0 + 4, np.ones(17)], axis=1)
    keypoints[4] = 0  # not annotated
    keypoints[9, 2] = 0  # hidden
    return keypoints


def outside(annotation: dict[str, Any]) -> None:
    """Moves the nose of an annotation, which has no scores."""
    annotation["keypoints"][0] = 300
    annotation["scores"] = []


def some_labels(version: str = "PoseTrack18", clip: str = "000007_toy", frames: int = 8) -> Labels:
    first = FIRST_FRAME[version]
    person = Person(3, (2.0, 1.0, 60.0, 50.0), some_keypoints(), (4.0, 2.0, 10.0, 12.0), np.linspace(0.1, 1, 17))
    labels = tuple(
        FrameLabels(
            image_id=1000 + number,
            file_name=f"images/val/{clip}/{number:0{VERSIONS[version]}d}.jpg",
            people=(person,),
            ignore_regions=(np.array([(0.0, 0.0), (9.0, 0.0), (9.0, 9.0)]),),
        )
        for number in range(first, first + frames)
    )
    return Labels(clip, labels, version, "a test's ground truth", 96, 64)


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[Edit], Path]:
    """A valid file with one edit."""

    def make(edit: Edit) -> Path:
        path = tmp_path / "labels.json"
        write_posetrack([some_labels()], path)
        data = json.loads(path.read_text())
        edit(data)
        path.write_text(json.dumps(data))
        return path

    return make


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_written_is_read(version: str, tmp_path: Path) -> None:
    labels = some_labels(version)
    write_posetrack([labels], tmp_path / "labels.json")
    (read,) = read_posetrack(tmp_path / "labels.json")
    assert (read.clip, read.version, read.source) == (labels.clip, version, "a test's ground truth")
    assert (read.width, read.height) == (96, 64)
    for ours, theirs in zip(labels.frames, read.frames, strict=True):
        assert (ours.image_id, ours.file_name, ours.labelled) == (theirs.image_id, theirs.file_name, theirs.labelled)
        np.testing.assert_array_equal(ours.ignore_regions[0], theirs.ignore_regions[0])
        (person,) = theirs.people
        assert (person.track_id, person.box, person.head_box) == (3, (2, 1, 60, 50), (4, 2, 10, 12))
        np.testing.assert_array_equal(person.keypoints, some_keypoints())
        np.testing.assert_array_equal(person.scores, np.linspace(0.1, 1, 17))


def test_the_authors_posetrack17_holds_several_clips_in_one_file(tmp_path: Path) -> None:
    first = some_labels("PoseTrack17", "000001_a")
    second = some_labels("PoseTrack17", "000002_b")
    second = replace(second, frames=tuple(replace(f, image_id=f.image_id + 100) for f in second.frames))
    write_posetrack([first, second], tmp_path / "posetrack_val.json")
    assert [labels.clip for labels in read_posetrack(tmp_path / "posetrack_val.json")] == ["000001_a", "000002_b"]


def test_a_folder_of_files_is_read_whole(tmp_path: Path) -> None:
    for clip in ("000001_a", "000002_b"):
        write_posetrack([some_labels(clip=clip)], tmp_path / f"{clip}.json")
    assert [labels.clip for labels in read_posetrack(tmp_path)] == ["000001_a", "000002_b"]


def test_frames_that_a_sparse_file_leaves_out_are_filled_in(broken: Callable[[Edit], Path]) -> None:
    def sparse(data: dict[str, Any]) -> None:
        data["images"] = data["images"][::7]
        data["annotations"] = data["annotations"][::7]

    (labels,) = read_posetrack(broken(sparse))
    assert labels.labelled == (0, 7)
    assert [frame.file_name[-10:] for frame in labels.frames] == [f"{number:06d}.jpg" for number in range(8)]
    assert len({frame.image_id for frame in labels.frames}) == 8


def test_people_of_no_track_have_an_id_that_says_so(broken: Callable[[Edit], Path]) -> None:
    (labels,) = read_posetrack(broken(lambda data: data["annotations"][0].pop("track_id")))
    assert labels.frames[0].people[0].track_id == UNTRACKED


def test_a_size_of_nothing_is_unknown(broken: Callable[[Edit], Path]) -> None:
    (labels,) = read_posetrack(broken(lambda data: [image.update(width=0, height=0) for image in data["images"]]))
    assert (labels.width, labels.height) == (None, None)


def test_joints_may_come_in_another_order_and_without_ears(broken: Callable[[Edit], Path]) -> None:
    names = [name for name in reversed(JOINTS) if not name.endswith("ear")]

    def reorder(data: dict[str, Any]) -> None:
        data["categories"][0]["keypoints"] = names
        for annotation in data["annotations"]:
            table = np.reshape(annotation["keypoints"], (17, 3))
            annotation["keypoints"] = table[[JOINTS.index(name) for name in names]].ravel().tolist()
            annotation["scores"] = []

    (labels,) = read_posetrack(broken(reorder))
    expected = some_keypoints()
    expected[[JOINTS.index("left_ear"), JOINTS.index("right_ear")]] = 0
    np.testing.assert_array_equal(labels.frames[0].people[0].keypoints, expected)


def test_people_without_a_single_joint_are_left_out(broken: Callable[[Edit], Path]) -> None:
    (labels,) = read_posetrack(
        broken(lambda data: data["annotations"][0].update(keypoints=[0] * 51, bbox=[0, 0, 0, 0]))
    )
    assert labels.frames[0].people == ()
    assert labels.frames[0].labelled


def test_predicted_joints_may_be_anywhere(broken: Callable[[Edit], Path]) -> None:
    (labels,) = read_posetrack(broken(lambda data: data["annotations"][0]["keypoints"].__setitem__(0, 300)))
    assert labels.frames[0].people[0].keypoints[0, 0] == 300


def test_predicted_people_may_leave_the_image(broken: Callable[[Edit], Path]) -> None:
    (labels,) = read_posetrack(broken(lambda data: data["annotations"][0].update(bbox=[96, 2, 9, 4])))
    assert labels.frames[0].people[0].box == (96, 2, 9, 4)


def test_a_missing_box_is_drawn_around_the_joints(broken: Callable[[Edit], Path]) -> None:
    (labels,) = read_posetrack(broken(lambda data: data["annotations"][0].pop("bbox")))
    assert labels.frames[0].people[0].box == pytest.approx((5 - 0.15 * 48, 4 - 0.15 * 32, 1.3 * 48, 1.3 * 32))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.pop("images"), "images: Field required"),
        (lambda d: d["images"].clear(), "images: List should have at least 1 item"),
        (lambda d: d["images"][2].update(id="x"), r"images\.2\.id: .*integer"),
        (lambda d: d["images"][2].update(id=1000), r"images\.0\.id: 1000 is used by 2 images"),
        (lambda d: d["images"][2].update(file_name="000002.jpg"), r"images\.2\.file_name: 000002\.jpg: should be"),
        (lambda d: d["images"][2].update(file_name="../../x/000002.jpg"), r"images\.2\.file_name: .*relative"),
        (lambda d: d["images"][2].update(file_name="a/b/two.jpg"), r"images\.2\.file_name: .*6 \(PoseTrack18\)"),
        (lambda d: d["images"][2].update(file_name="a/000007_toy/00000002.jpg"), "is PoseTrack17's name"),
        (lambda d: d["images"][2].update(file_name="images/val/000007_toy/000003.jpg"), "images 2, 3: .* same frame"),
        (lambda d: d["images"][2].update(file_name="images/val/000007_toy/000003.png"), "images 2, 3: .* same frame"),
        (lambda d: d["images"][7].update(file_name="images/train/000007_toy/000007.jpg"), "7_toy is there 2 times"),
        (lambda d: d["images"][7].update(file_name="images/val/000007_toy/000008.jpg"), "is no frame .* nframes is 8"),
        (lambda d: d["images"][3].update(width=95), "images of different sizes"),
        (lambda d: d["images"][3].update(ignore_regions_x=[[1, 2]]), r"images\.3\.ignore_regions_x: .*2 x and"),
        (lambda d: d["annotations"][1].update(image_id=5), r"annotations\.1\.image_id: 5 is not the id of any image"),
        (lambda d: d["annotations"][1]["keypoints"].pop(), r"annotations\.1\.keypoints: 50 numbers, should be 3 x 17"),
        (lambda d: outside(d["annotations"][1]), "keypoints: nose has x = 300, far outside"),
        (lambda d: d["annotations"][1]["keypoints"].__setitem__(0, float("nan")), r"annotations\.1\.keypoints\.0: "),
        (lambda d: d["annotations"][1].update(scores=[1.0]), r"annotations\.1\.scores: 1 numbers, should be 17"),
        (lambda d: d["annotations"][1].update(bbox=[1, 2, 0, 4]), r"annotations\.1\.bbox: width 0 and height 4"),
        (lambda d: d["annotations"][1].update(bbox=[96, 2, 9, 4], scores=[]), r"\.1\.bbox: .*outside the 96 x 64"),
        (lambda d: d["annotations"][1].update(bbox=[1, 2]), r"annotations\.1\.bbox: List should have at least 4"),
        (lambda d: d["annotations"][1].update(bbox_head=[1, 2, -3, 4]), r"annotations\.1\.bbox_head: width -3"),
        (lambda d: d["categories"][0]["keypoints"].__setitem__(1, "left_eye"), "missing .*head_bottom.* unknown .*eye"),
        (lambda d: d.update(annolist=[]), "annolist: is the MPII-style format"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_by_field(edit: Edit, message: str, broken: Callable[[Edit], Path]) -> None:
    path = broken(edit)
    with pytest.raises(AnnotationError, match=message) as error:
        read_posetrack(path)
    assert str(error.value).startswith(str(path))


def test_a_clip_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_posetrack([some_labels()], tmp_path / f"{name}.json")
    with pytest.raises(AnnotationError, match="clip 000007_toy is there 2 times"):
        read_posetrack(tmp_path)


def test_truncated_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    write_posetrack([some_labels()], path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(AnnotationError, match=re.escape(f"{path}: not valid JSON")):
        read_posetrack(path)


def test_missing_images_are_named(tmp_path: Path) -> None:
    write_posetrack([some_labels()], tmp_path / "labels.json")
    with pytest.raises(AnnotationError, match=r"000007_toy: 8 of 8 images are missing, first .*000000\.jpg"):
        open_clips(tmp_path / "labels.json", tmp_path)


def test_every_kth_frame_keeps_its_labels() -> None:
    sparse = some_labels(frames=16).every(7)
    assert sparse.labelled == (0, 7, 14)
    assert sparse.frames[7].people
    assert not sparse.frames[6].people
    assert sparse.every(2).labelled == (0, 14), "frames are counted, not labels"


@pytest.mark.parametrize(("n", "kept"), [(1, (4,)), (2, (2, 6)), (3, (1, 4, 6)), (20, tuple(range(8)))])
def test_n_labels_are_spread_over_the_clip(n: int, kept: tuple[int, ...]) -> None:
    assert some_labels().spread(n).labelled == kept


def test_labels_say_version_source_and_how_many() -> None:
    text = str(some_labels().every(7))
    assert text == "000007_toy: PoseTrack18, 2 of 8 frames labelled (a test's ground truth)"
