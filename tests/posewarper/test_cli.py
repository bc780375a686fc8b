"""The command line: stages of training on a synthetic data set, conversion, errors in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import posewarper

from posewarper_models import load_checkpoint

SMALL = [
    "--set=model.backbone_settings={width: 8, channels: [8, 8, 8, 8]}",
    "--set=data.image_size=[64, 64]",
    "--set=schedule.epochs=1",
    "--set=schedule.batch_size=2",
    "--accelerator=cpu",
    "--devices=1",
]


@pytest.mark.slow
def test_both_stages_and_retraining_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def run(*arguments: str | Path) -> None:
        assert posewarper(monkeypatch, *arguments) == 0, capsys.readouterr().err

    data = tmp_path / "data"
    run("synth", data, "--clips=2", "--frames=4", "--workers=1", "--people-max=1")
    run("train", "demo_heatmaps", data, tmp_path / "one", *SMALL)
    run("train", "demo_warping", data, tmp_path / "two", f"--start={tmp_path / 'one' / 'model.pt'}", *SMALL)
    run("convert", tmp_path / "two" / "last.ckpt", tmp_path / "half.pt", "--half")
    sparse = ["--every=3", f"--model={tmp_path / 'half.pt'}", "--overlay=none", "--no-panel"]
    run("propagate", data / "annotations" / "train", tmp_path / "dense", f"--data={data}", *sparse)
    labels = f"--labels={tmp_path / 'dense' / 'labels'}"
    run("train", "demo_heatmaps", data, tmp_path / "again", labels, f"--start={tmp_path / 'two' / 'model.pt'}", *SMALL)
    run("evaluate", data / "annotations" / "train", tmp_path / "dense" / "labels")
    printed = capsys.readouterr().out
    assert "propagated by PoseWarper" in printed
    assert "PoseTrack18, synthetic ground truth" in printed
    model, report = load_checkpoint(tmp_path / "half.pt")
    assert report.complete
    assert model.image_size == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "nothing.pth", "out.pt"], "nothing.pth: no such file"),
        (["train", "table9", "data", "out"], "table9: no such file, and no configuration"),
        (["train", "propagation", "data", "out"], "data"),
    ],
    ids=["checkpoint", "configuration", "data"],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert posewarper(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir()), "nothing was written"
