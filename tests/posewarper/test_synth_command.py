"""posewarper synth: folders in PoseTrack18's format, that nothing is lost in and that can be resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from posewarper_models.commands.synth import synth
from posewarper_models.data.posetrack import open_clips
from posewarper_models.data.synthetic import SceneSettings, synthesise
from posewarper_models.data.synthetic.writing import write_clips
from posewarper_models.recipes import OutputFolderError

TINY = SceneSettings(width=64, height=48, frames=3, noise=0.0)


def written(folder: Path, clips: int = 2, settings: SceneSettings = TINY, seed: int = 3, workers: int = 1) -> list[int]:
    return list(write_clips(folder, settings, clips, seed, "train", workers))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_is_the_clip_in_memory(tmp_path: Path) -> None:
    written(tmp_path)
    clips = open_clips(tmp_path / "annotations" / "train", tmp_path)
    assert [str(clip.labels) for clip in clips] == [
        f"00000{index}_synth: PoseTrack18, 3 of 3 frames labelled (synthetic ground truth)" for index in range(2)
    ]
    for index, clip in enumerate(clips):
        original = synthesise(TINY, 3, index)
        for frame in range(3):
            assert np.abs(clip.frames[frame].astype(int) - original.frames[frame]).mean() < 5  # JPEG
            for ours, theirs in zip(
                clip.labels.frames[frame].people, original.labels.frames[frame].people, strict=True
            ):
                np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)
                assert (ours.track_id, ours.box, ours.head_box) == (theirs.track_id, theirs.box, theirs.head_box)


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    assert sorted(written(tmp_path / "two", workers=2)) == written(tmp_path / "one")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_it_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    stopped = write_clips(tmp_path / "stopped", TINY, 3, 3)
    next(stopped)
    stopped.close()
    first = tmp_path / "stopped/annotations/train/000000_synth.json"
    before = first.stat().st_mtime_ns
    assert written(tmp_path / "stopped", 3) == [0, 1, 2]
    assert first.stat().st_mtime_ns == before
    written(tmp_path / "whole", 3)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed = 3, not 4"),
        ({"settings": SceneSettings(width=64, height=48, frames=3, noise=0.0, speed=2.0)}, "speed = 1.0, not 2.0"),
    ],
)
def test_clips_of_another_kind_are_not_mixed(change: dict[str, object], message: str, tmp_path: Path) -> None:
    written(tmp_path, 1)
    before = contents(tmp_path)
    with pytest.raises(OutputFolderError, match=message):
        written(tmp_path, 1, **change)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["thesis.tex", "images/train/mine.jpg"])
def test_folders_with_other_files_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("precious")
    with pytest.raises(OutputFolderError, match=r"holds other files|who made it"):
        written(tmp_path)
    assert contents(tmp_path) == {name: b"precious"}


@pytest.mark.parametrize("wrong", [{"clips": 0}, {"workers": 0}])
def test_impossible_numbers_are_refused(wrong: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="should be at least 1"):
        written(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_a_seed_below_zero_leaves_the_folder_to_the_next(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seed: is -1, should be at least 0"):
        written(tmp_path / "out", seed=-1)
    assert not (tmp_path / "out").exists()


def test_a_split_that_would_leave_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"split: is '\.\./x'"):
        write_clips(tmp_path, TINY, 1, 0, "../x")


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(synth)
    options = ["--clips=1", "--width=64", "--height=48", "--frames=2", "--action=turn", "--workers=1", "--split=val"]
    result = CliRunner().invoke(app, [str(tmp_path / "new"), *options])
    assert result.exit_code == 0, result.output
    assert "1 clips of 2 frames, 64 x 48: PoseTrack18, synthetic ground truth" in result.output
    assert len(open_clips(tmp_path / "new/annotations/val", tmp_path / "new")) == 1
