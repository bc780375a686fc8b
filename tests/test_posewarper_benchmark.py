"""The benchmark of the whole PoseWarper: the same numbers first, then times."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.device import DEVICES
from benchmarks.posewarper import __main__ as command
from benchmarks.posewarper.cases import BENCHMARKS, CLIP, HEATMAPS, PRECISIONS, Case, make_run
from benchmarks.posewarper.measuring import Settings, agreement, measure
from benchmarks.posewarper.networks import Untrained, peers
from benchmarks.timing import Plan
from benchmarks.workloads import OFFSET_SIGMA
from posewarper_models import PoseWarper, save_checkpoint
from posewarper_models.experiments.backends import TorchvisionWarp

ONE_TURN = Settings("cpu", Plan(0.001, 2, 2), threads=1)
SMALL = Untrained(
    {
        "backbone": "resnet10t",
        "num_blocks": 1,
        "channels": 8,
        "dilations": (1, 2),
        "backbone_settings": {"width": 8, "channels": [8, 8, 8, 8]},
        "image_size": (64, 32),
    }
)
CASES = [replace(case, batch=2) for benchmark in BENCHMARKS.values() for case in benchmark.cases]


@pytest.fixture(scope="module")
def both() -> Mapping[str, PoseWarper]:
    return peers(SMALL)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_give_the_same_heatmaps_loss_and_gradients(case: Case, both: Mapping[str, PoseWarper]) -> None:
    found = agreement(case, both, "float32")
    assert "wrong" not in found
    assert set(found["differences"]) == {"heatmaps", "loss"} | ({"gradients"} if case.training else set())
    assert found["losses"]["deformwarp"] == pytest.approx(found["losses"]["torchvision"], rel=1e-5)


def test_an_untrained_network_is_the_same_every_time_and_its_offsets_are_pixels_wide(
    both: Mapping[str, PoseWarper],
) -> None:
    model = both["deformwarp"]
    again = SMALL.make().state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    f_a, f_b = model.heatmaps(torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(1))).split(1)
    for offsets in model.warping.offsets(f_a - f_b):
        assert OFFSET_SIGMA / 3 < offsets.std() < 3 * OFFSET_SIGMA


def test_zero_offsets_warp_a_clip_of_equal_frames_to_one_of_them() -> None:
    model = SMALL.make()
    for conv in model.warping.offset_convs.parameters():
        nn.init.zeros_(conv)
    nn.init.zeros_(model.warping.warp.weight)
    model.warping.warp.weight.data[:, range(17), range(17), 1, 1] = 1.0
    frame = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            CLIP.predict(model, frame.expand(5, 1, 3, 64, 32)), model.heatmaps(frame), rtol=1e-4, atol=1e-5
        )


def test_a_step_trains_the_warping_part_and_leaves_the_backbone_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copy.deepcopy", lambda model: model)  # a run trains its own copy otherwise
    model = SMALL.make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    (case,) = (case for case in CASES if case.training and not case.source.are_heatmaps)
    make_run(case, model, PRECISIONS["float32"])()
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"warping"}


@pytest.mark.parametrize("factor", [1.01, float("nan")], ids=["other", "not a number"])
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_no_time_is_given_when_results_differ(
    training: bool, factor: float, both: Mapping[str, PoseWarper], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = TorchvisionWarp.forward
    monkeypatch.setattr(TorchvisionWarp, "forward", lambda self, *given: forward(self, *given) * factor)
    figures = measure(Case("wrong", HEATMAPS, 1, training), SMALL, both, "float32", ONE_TURN)
    assert "seconds" not in figures
    assert "no time: results differ: heatmaps by" in command.row(figures)


@pytest.mark.slow
def test_a_run_leaves_times_and_memory_with_their_machine(
    both: Mapping[str, PoseWarper], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_threads: None
) -> None:
    checkpoint, out = tmp_path / "model.pt", tmp_path / "results.json"
    save_checkpoint(both["deformwarp"], checkpoint)
    step = replace(BENCHMARKS["demo"], cases=(Case("step", HEATMAPS, 1, training=True),))
    monkeypatch.setitem(BENCHMARKS, "demo", step)
    assert command.main([f"--model={checkpoint}", f"--out={out}", "--seconds=0.01", "--threads=1"]) == 0
    content = json.loads(out.read_text())
    assert content["complete"]
    assert {"machine", "versions", "commit", "threads", "device"} <= set(content)
    (case,) = content["cases"]
    assert case["precision"] == "float32"
    assert case["seconds"]["deformwarp"]["median"] > 0
    assert set(case["memory_bytes"]) == {"deformwarp", "torchvision"}


def test_an_interrupted_run_keeps_the_cases_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([{"name": "first", "precision": "float32", "wrong": "nothing ran"}])

    def once(*given: object) -> dict[str, object]:
        try:
            return next(answers)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(command, "measure", once)
    monkeypatch.setattr(command, "peers", lambda network: {})
    out = tmp_path / "results.json"
    with pytest.raises(KeyboardInterrupt):
        command.main([f"--out={out}"])
    content = json.loads(out.read_text())
    assert not content["complete"]
    assert [case["name"] for case in content["cases"]] == ["first"]


def test_a_device_that_is_not_there_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(type(DEVICES["cuda"]), "why_not_here", lambda self: "torch sees no GPU")
    assert command.main(["--device=cuda", f"--out={tmp_path / 'none.json'}"]) == 2
    assert "--device cuda: torch sees no GPU" in capsys.readouterr().err
    assert not (tmp_path / "none.json").exists()
