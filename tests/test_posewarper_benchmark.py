"""The benchmark of PoseWarper's warping part: the same numbers first, then times."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import posewarper
from benchmarks.timing import Plan
from posewarper_models import PoseWarper, build_posewarper, save_checkpoint

ONE_TURN = Plan(0.001, 2, 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    settings = {"width": 8, "channels": [8, 8, 8, 8]}
    small = build_posewarper(
        "resnet10t", num_blocks=1, channels=8, dilations=(1, 2), backbone_settings=settings, image_size=(64, 32)
    )
    for conv in small.warping.offset_convs.parameters():
        torch.nn.init.normal_(conv, std=0.2)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_checkpoint(small, path)
    return path


@pytest.mark.parametrize("case", posewarper.CASES, ids=lambda case: case.name)
def test_both_give_the_same_numbers(model: Path, case: posewarper.Case) -> None:
    both = posewarper.models(model)
    assert posewarper.difference(replace(case, batch=2), both) < posewarper.TOLERANCE


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_no_time_is_given_when_results_differ(model: Path, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    warped = PoseWarper.warped
    monkeypatch.setattr(
        PoseWarper,
        "warped",
        lambda self, *maps: (
            warped(self, *maps) * (1.01 if isinstance(self.warping.warp, posewarper.FiveCalls) else 1.0)
        ),
    )
    figures = posewarper.measure(posewarper.Case("wrong", 1, training), model, ONE_TURN, 1)
    assert "seconds" not in figures
    assert "no time: results differ" in posewarper.line(figures)


@pytest.mark.slow
def test_a_run_leaves_times_and_memory_with_their_machine(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_threads: None
) -> None:
    monkeypatch.setattr(posewarper, "CASES", [posewarper.Case("step", 1, True)])
    out = tmp_path / "results.json"
    assert posewarper.main([f"--model={model}", f"--out={out}", "--seconds=0.01", "--threads=1"]) == 0
    content = json.loads(out.read_text())
    assert {"machine", "versions", "commit", "threads"} <= set(content)
    (case,) = content["cases"]
    assert case["seconds"]["deformwarp"]["median"] > 0
    assert set(case["memory_bytes"]) == {"deformwarp", "torchvision"}
