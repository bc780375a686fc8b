"""posewarper propagate and aggregate: what they write, how they go on, and what they refuse."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from command_line import posewarper

from posewarper_models import PoseWarper, build_posewarper, save_checkpoint
from posewarper_models.data.posetrack import read_posetrack, write_posetrack
from posewarper_models.data.synthetic import SceneSettings
from posewarper_models.data.synthetic.writing import write_clips
from posewarper_models.video import open_frames

FRAMES = 5
CLIP = "000000_synth"
SINGLE = "--weights=single"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One synthetic clip, and the same as a video beside it."""
    folder = tmp_path_factory.mktemp("set") / "data"
    settings = SceneSettings(width=96, height=80, frames=FRAMES, people_min=2, people_max=2, occluders=0.0)
    list(write_clips(folder, settings, 1, seed=2))
    writer = cv2.VideoWriter(str(folder.parent / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 80))
    for frame in open_frames(folder / "images" / "train" / CLIP):
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return folder


def small_model() -> PoseWarper:
    torch.manual_seed(0)
    settings = {"width": 8, "channels": [8, 8, 8, 8]}
    return build_posewarper(
        "resnet10t", num_blocks=1, channels=8, dilations=(1, 2), backbone_settings=settings, image_size=(64, 64)
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = small_model()
    for conv in small.warping.offset_convs:
        torch.nn.init.normal_(conv.weight)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_checkpoint(small, path)
    return path


@pytest.fixture
def first_stage(tmp_path: Path) -> Path:
    """A network that has not learnt to warp."""
    save_checkpoint(small_model(), tmp_path / "stage1.pt")
    return tmp_path / "stage1.pt"


@pytest.fixture
def labels(data: Path, tmp_path: Path) -> Path:
    """Of which only frame 2 is labelled."""
    (whole,) = read_posetrack(data / "annotations" / "train")
    path = tmp_path / "sparse" / f"{CLIP}.json"
    write_posetrack([whole.keep_labelled([2])], path)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path, data: Path) -> Callable[..., int]:
    """The command with this model and, unless a video is named, this data set."""

    def command(name: str, *arguments: str | Path) -> int:
        monkeypatch.chdir(tmp_path)
        named = {str(argument).partition("=")[0] for argument in arguments}
        where = [] if "--video" in named else [f"--data={data}"]
        what = [] if "--model" in named else [f"--model={model}"]
        return posewarper(monkeypatch, name, *arguments, *where, *what)

    return command


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_propagation_writes_dense_labels_a_video_and_a_panel(
    run: Callable[..., int], labels: Path, tmp_path: Path
) -> None:
    assert run("propagate", labels, tmp_path / "out") == 0
    assert names(tmp_path / "out") == {"settings.json", "labels", f"{CLIP}.mp4", f"{CLIP}_panel.png"}
    (given,), (found,) = read_posetrack(labels), read_posetrack(tmp_path / "out" / "labels")
    assert found.labelled == tuple(range(FRAMES))
    assert "propagated by PoseWarper" in found.source
    for ours, theirs in zip(found.frames[2].people, given.frames[2].people, strict=True):
        np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)
    assert len(open_frames(tmp_path / "out" / f"{CLIP}.mp4")) == FRAMES


def only_labelled(labels: Path) -> None:
    """The file without the frames that nobody has looked at, and without saying how many there are."""
    sparse = json.loads(labels.read_text())
    sparse["images"] = [image for image in sparse["images"] if image["is_labeled"]]
    for image in sparse["images"]:
        del image["nframes"]
    labels.write_text(json.dumps(sparse))


def test_a_video_is_as_good_as_a_data_set(run: Callable[..., int], labels: Path, data: Path, tmp_path: Path) -> None:
    only_labelled(labels)
    video = data.parent / "clip.avi"
    assert run("propagate", labels, tmp_path / "out", f"--video={video}", "--overlay=none", "--no-panel") == 0
    assert names(tmp_path / "out") == {"settings.json", "labels"}
    (found,) = read_posetrack(tmp_path / "out" / "labels")
    assert found.labelled == tuple(range(FRAMES))
    assert found.frames[2].people[0].scores is None, "what was given stays"


def test_what_a_list_of_labelled_frames_became_can_be_evaluated(
    run: Callable[..., int],
    labels: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The README's way from labels of some frames to figures."""
    only_labelled(labels)
    dense = tmp_path / "dense"
    assert run("propagate", labels, dense, f"--video={data.parent / 'clip.avi'}", "--overlay=none", "--no-panel") == 0
    evaluation = ["evaluate", data / "annotations" / "train", dense / "labels"]
    assert posewarper(monkeypatch, *evaluation) == 0
    of_all = capsys.readouterr().out
    assert posewarper(monkeypatch, *evaluation, f"--given={labels}") == 0
    of_propagated = capsys.readouterr().out
    assert f"in {FRAMES} frames" in of_all
    assert f"in {FRAMES - 1} frames" in of_propagated
    assert "PCK@0.5" in of_all
    assert "PCK@0.5" in of_propagated


def boxes_only(labels: Path) -> Path:
    content = json.loads(labels.read_text())
    for annotation in content["annotations"]:
        for field in ("keypoints", "scores", "bbox_head"):
            annotation.pop(field, None)
    labels.write_text(json.dumps(content))
    return labels


@pytest.mark.parametrize("weights", ["paper", "authors", "single"])
def test_aggregation_needs_boxes_only(run: Callable[..., int], labels: Path, tmp_path: Path, weights: str) -> None:
    boxes = boxes_only(labels)
    assert run("aggregate", tmp_path / "out", f"--boxes={boxes}", f"--weights={weights}", "--overlay=gif") == 0
    assert names(tmp_path / "out") == {"settings.json", "labels", f"{CLIP}.gif", f"{CLIP}_panel.png"}
    (given,), (found,) = read_posetrack(boxes), read_posetrack(tmp_path / "out" / "labels")
    assert found.labelled == (2,)
    assert f"{weights} weights" in found.source
    for ours, theirs in zip(found.frames[2].people, given.frames[2].people, strict=True):
        assert (ours.track_id, ours.box) == (theirs.track_id, theirs.box)
        assert ours.annotated.all()


def test_what_is_complete_is_not_computed_again(
    run: Callable[..., int], labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run("propagate", labels, out, "--overlay=none") == 0
    before = contents(out)
    monkeypatch.setattr("posewarper_models.network.PoseWarper.warped", lambda *arguments: pytest.fail("computed again"))
    assert run("propagate", labels, out, "--overlay=none") == 0
    assert contents(out) == before


def test_an_interrupted_run_keeps_its_frames_and_goes_on(
    run: Callable[..., int], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posewarper_models import aggregate

    found, seen = aggregate._found, []

    def counting(model: Any, frames: Any, index: int, *arguments: Any) -> Any:
        if index == 3 and len(seen) < 7:
            raise KeyboardInterrupt
        seen.append(index)
        return found(model, frames, index, *arguments)

    monkeypatch.setattr(aggregate, "_found", counting)
    command = ["aggregate", tmp_path / "out", f"--boxes={data / 'annotations' / 'train'}", "--overlay=none"]
    assert run(*command) != 0
    assert names(tmp_path / "out") == {"settings.json", f"{CLIP}.partial"}
    assert seen == [0, 0, 1, 1, 2, 2]
    seen.append(-1)  # no further interruption
    assert run(*command) == 0
    assert seen[7:] == [3, 3, 4, 4]
    assert names(tmp_path / "out") == {"settings.json", "labels", f"{CLIP}_panel.png"}
    monkeypatch.undo()
    (resumed,) = read_posetrack(tmp_path / "out" / "labels")
    assert resumed.labelled == tuple(range(FRAMES))


def test_results_of_other_settings_are_not_mixed(
    run: Callable[..., int], labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["propagate", labels, tmp_path / "out", "--overlay=none", "--no-panel"]
    assert run(*arguments, "--reach=1") == 0
    assert run(*arguments, "--reach=2") == 2
    assert "reach = 1, not 2" in capsys.readouterr().err


def moved(labels: Path) -> Path:
    content = json.loads(labels.read_text())
    for annotation in content["annotations"]:
        annotation["bbox"][0] += 1
    labels.write_text(json.dumps(content))
    return labels


@pytest.mark.parametrize("command", ["propagate", "aggregate"])
def test_results_of_other_people_are_not_mixed(
    run: Callable[..., int], labels: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, options = tmp_path / "out", ["--overlay=none", "--no-panel"]
    arguments = {"propagate": [labels, out, *options], "aggregate": [out, f"--boxes={labels}", *options]}[command]
    assert run(command, *arguments) == 0
    before = contents(out)
    moved(labels)
    assert run(command, *arguments) == 2
    name = {"propagate": "labels", "aggregate": "boxes"}[command]
    assert f"settings.json: what is there was made with {name} = " in capsys.readouterr().err
    assert contents(out) == before


@pytest.mark.parametrize("other", ["copied", "changed"])
def test_results_of_another_video_are_not_mixed(
    run: Callable[..., int], labels: Path, data: Path, tmp_path: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "clip.avi"
    shutil.copy2(data.parent / "clip.avi", video)
    arguments = ["propagate", labels, tmp_path / "out", "--overlay=none", "--no-panel"]
    assert run(*arguments, f"--video={video}") == 0
    assert run(*arguments, "--video=clip.avi") == 0, "the same by another name"
    if other == "changed":
        os.utime(video, (0, 0))
    else:
        video = shutil.copy2(video, tmp_path / "other.avi")
    assert run(*arguments, f"--video={video}") == 2
    assert "made with frames = " in capsys.readouterr().err


def test_results_of_another_data_set_are_not_mixed(
    run: Callable[..., int], labels: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["propagate", labels, tmp_path / "out", "--overlay=none", "--no-panel"]
    assert run(*arguments) == 0
    assert run(*arguments, f"--video={data / 'images' / 'train' / CLIP}") == 2
    assert f"made with frames = {data}, not {data / 'images' / 'train' / CLIP}" in capsys.readouterr().err


def test_results_of_other_detector_weights_are_not_mixed(
    run: Callable[..., int],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("posewarper_models.detect.Detector", lambda weights: lambda image: [])
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"one")
    arguments = ["aggregate", tmp_path / "out", f"--detector={weights}", f"--video={data.parent / 'clip.avi'}"]
    assert run(*arguments) == 0
    weights.write_bytes(b"two")
    assert run(*arguments) == 2
    assert "made with detector = " in capsys.readouterr().err


def test_a_folder_that_does_not_say_what_it_was_made_of_is_refused(
    run: Callable[..., int], labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["propagate", labels, tmp_path / "out", "--overlay=none", "--no-panel"]
    assert run(*arguments) == 0
    kept = tmp_path / "out" / "settings.json"
    recipe = json.loads(kept.read_text())
    kept.write_text(json.dumps({key: recipe[key] for key in recipe if key not in ("labels", "frames")}))
    assert run(*arguments) == 2
    assert "settings.json: does not say with which frames it was made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["propagate", "LABELS"], 2), (["aggregate", "--boxes=LABELS"], 2), (["aggregate", "--boxes=LABELS", SINGLE], 0)],
    ids=["propagate", "aggregate", "aggregate without warp"],
)
def test_a_network_that_has_not_learnt_to_warp_is_not_asked_to(
    run: Callable[..., int],
    labels: Path,
    first_stage: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = [argument.replace("LABELS", str(labels)) for argument in arguments]
    assert run(*named, tmp_path / "out", f"--model={first_stage}", "--overlay=none") == code
    assert (tmp_path / "out").exists() == (code == 0)
    assert code == 0 or "stage1.pt: its warping part is not trained" in capsys.readouterr().err


def test_labels_that_every_leaves_out_are_named(
    run: Callable[..., int], labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("propagate", labels, tmp_path / "out", "--every=3") == 2
    assert f"--every: of clip {CLIP} none of the frames 0, 3, 6, ... is labelled" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


Change = Callable[[dict[str, Any]], Any]
WRONG_LABELS: dict[str, tuple[Change, str]] = {
    "empty box": (lambda file: file["annotations"][0].update(bbox=[1, 2, 0, 5]), r"annotations.0.bbox: width 0"),
    "box outside": (lambda file: file["annotations"][0].update(bbox=[200, 2, 9, 5]), "outside the 96 x 80 image"),
    "joint outside": (lambda file: file["annotations"][0]["keypoints"].__setitem__(0, 900), "nose has x = 900"),
    "another image": (lambda file: file["annotations"][0].update(image_id=7), "annotations.0.image_id: 7"),
    "missing frame": (
        lambda file: (
            file["images"][4].update(file_name=f"images/none/{CLIP}/000004.jpg")
            or [i.update(file_name=i["file_name"].replace("train", "none")) for i in file["images"][:4]]
        ),
        "images are missing, first",
    ),
    "no labels": (
        lambda file: file.update(annotations=[]) or file["images"][2].update(is_labeled=False),
        f"clip {CLIP}: no frame is",
    ),
}


@pytest.mark.parametrize("name", WRONG_LABELS)
def test_wrong_labels_are_named_and_nothing_is_written(
    run: Callable[..., int], labels: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = WRONG_LABELS[name]
    content = json.loads(labels.read_text())
    change(content)
    labels.write_text(json.dumps(content))
    assert run("propagate", labels, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_labels_of_frames_that_the_video_lacks_are_refused(
    run: Callable[..., int], labels: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (given,) = read_posetrack(labels)
    later = replace(given.frames[2], image_id=77, file_name=f"images/train/{CLIP}/000009.jpg")
    write_posetrack([replace(given, frames=(*given.frames, later))], labels)
    content = json.loads(labels.read_text())
    for image in content["images"]:
        image["nframes"] = 12
    labels.write_text(json.dumps(content))
    assert run("propagate", labels, tmp_path / "out", f"--video={data.parent / 'clip.avi'}") == 2
    assert "000009.jpg is labelled, but" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


WRONG_FILES: dict[str, tuple[str, bytes, list[str], str]] = {
    "video": ("clip.mp4", b"no video", ["--video=clip.mp4"], "clip.mp4: not a video"),
    "no video": ("x", b"", ["--video=gone.mp4"], "gone.mp4: no such video file"),
    "truncated checkpoint": ("model.pt", b"PK\x03\x04", ["--model=model.pt"], "model.pt: "),
    "no checkpoint": ("x", b"", ["--model=gone.pt"], "gone.pt: no such file"),
    "device": ("x", b"", ["--device=abacus"], "--device: abacus"),
    "folder": ("out/thesis.tex", b"precious", [], "holds other files (thesis.tex)"),
    "file": ("out", b"precious", [], "is a file"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_wrong_files_are_named_and_nothing_is_lost(
    run: Callable[..., int], labels: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file, content, arguments, message = WRONG_FILES[name]
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    assert run("propagate", labels, tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / file).read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["aggregate", "out"], "--boxes, --detector: name one of them"),
        (["aggregate", "out", "--detector=weights.pth"], "--video: name the video"),
        (["aggregate", "out", "--detector=weights.pth", "--video=VIDEO"], "weights.pth: no such file"),
    ],
    ids=["no boxes", "no video", "no weights"],
)
def test_boxes_must_come_from_somewhere(
    monkeypatch: pytest.MonkeyPatch,
    data: Path,
    model: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [argument.replace("VIDEO", str(data.parent / "clip.avi")) for argument in arguments]
    assert posewarper(monkeypatch, *arguments, f"--model={model}") == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), "nothing was written"
