"""Training: what learns, what is frozen, what happens when something breaks."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import resumable_run
import torch
from pairs import BlobPairs, BlurredBlobs
from tiny import TINY, TinyBackbone
from torch import Tensor, nn

from posewarper_models import PoseWarper, build_posewarper, load_checkpoint
from posewarper_models.checkpoints import DEMO, save_checkpoint
from posewarper_models.recipes import OutputFolderError
from posewarper_models.train.config import Config, load_config
from posewarper_models.train.loader import ResumableLoader, worker_settings
from posewarper_models.train.modules import CycleTraining, NonFiniteLossError, heatmap_loss
from posewarper_models.train.run import INPUTS, LAST, MODEL, Machine, RunError, start_model, train

CPU = Machine("cpu", 1, checkpoint_every=4)


def config(stage: str, **schedule: Any) -> Config:
    return Config.model_validate(
        {"stage": stage, "schedule": {"learning_rate": 1e-2, "epochs": 2, "batch_size": 4, **schedule}}
    )


def run(stage: str, folder: Path, start: PoseWarper, samples: BlobPairs | None = None, **arguments: Any) -> PoseWarper:
    arguments = {"machine": CPU, "progress": False, **arguments}
    return train(config(stage), samples or BlobPairs(), folder, start=start, **arguments)


def state(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def unchanged(before: dict[str, Tensor], module: nn.Module) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("stage", ["warping", "cycle"])
def test_the_backbone_is_frozen_with_its_statistics(stage: str, tmp_path: Path, tiny: PoseWarper) -> None:
    tiny.train()
    before = state(tiny.backbone), state(tiny.warping)
    assert "layers.1.running_mean" in before[0]
    trained = run(stage, tmp_path, tiny)
    assert unchanged(before[0], trained.backbone)
    moved = {name for name, value in trained.warping.state_dict().items() if not torch.equal(value, before[1][name])}
    assert moved == set(before[1]), "everything in the warping part learns"


def test_stage_1_trains_the_backbone_alone(tmp_path: Path, tiny: PoseWarper) -> None:
    before = state(tiny.backbone), state(tiny.warping)
    trained = run("heatmaps", tmp_path, tiny)
    assert not unchanged(before[0], trained.backbone)
    assert unchanged(before[1], trained.warping)


def test_what_was_trained_can_be_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = run("warping", tmp_path, build_posewarper(TinyBackbone(), **TINY))
    for name, kind in ((MODEL, "posewarper"), (LAST, "training")):
        again, report = load_checkpoint(tmp_path / name, backbone=TinyBackbone())
        assert report.complete, str(report)
        assert report.kind == kind
    again, _ = load_checkpoint(tmp_path / MODEL, backbone=TinyBackbone())
    assert unchanged(state(again), trained)


def test_warping_learns_what_the_backbone_cannot(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_posewarper(TinyBackbone(), **TINY)
    sample = BlobPairs()[0]
    batch = {name: sample[name][None] for name in ("reference", "support", "target", "weight")}

    def loss() -> float:
        with torch.no_grad():
            predicted = model.eval()(batch["reference"], batch["support"])
            return heatmap_loss(predicted, batch["target"], batch["weight"]).item()

    before = loss()
    run("warping", tmp_path, model)
    assert loss() < 0.9 * before


def test_the_cycle_goes_to_b_and_back(tiny: PoseWarper) -> None:
    sample = BlobPairs()[0]
    batch = {name: sample[name][None] for name in ("reference", "support", "target", "weight")}
    f_a, f_b = tiny.heatmaps(batch["reference"]), tiny.heatmaps(batch["support"])
    at_b = tiny.warping(f_b - f_a, f_a)
    back = tiny.warping(f_a - f_b, at_b)
    expected = 0.5 * (back - batch["target"]).square().mean()
    found = CycleTraining(tiny, config("cycle")).eval().loss(batch)
    torch.testing.assert_close(found, expected)


def test_joints_without_annotation_do_not_count() -> None:
    predicted, target = torch.rand(2, 2, 3, 4, 4)
    weight = torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    changed = predicted.clone()
    changed[:, 1] = 100
    assert torch.equal(heatmap_loss(predicted, target, weight), heatmap_loss(changed, target, weight))
    assert heatmap_loss(predicted, target, weight) > 0


def test_a_non_finite_loss_stops_and_names_the_batch(tmp_path: Path, tiny: PoseWarper) -> None:
    with pytest.raises(NonFiniteLossError, match=r"loss: is nan at step \d+ .*clip clip5, frame 5, person \d"):
        run("heatmaps", tmp_path, tiny, BlobPairs(broken=5))
    assert all(parameter.isfinite().all() for parameter in tiny.parameters()), "the step was not taken"


def finished(folder: Path) -> dict[str, Any]:
    return torch.load(folder / LAST, weights_only=True)


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, restored_threads: None) -> None:
    script = [sys.executable, str(Path(resumable_run.__file__)), str(tmp_path / "killed")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(script, env=environment) as killed:
        try:
            _wait_for(tmp_path / "killed" / LAST, killed)
        finally:
            killed.kill()
    reached = finished(tmp_path / "killed")["global_step"]
    assert reached % 8 != 0, "the last checkpoint should be from the middle of an epoch of 8 steps"
    assert not (tmp_path / "killed" / MODEL).exists()
    found = resumable_run.run(tmp_path / "killed", resume=True)
    expected = resumable_run.run(tmp_path / "whole")
    steps = {name: finished(tmp_path / name)["global_step"] for name in ("killed", "whole")}
    assert reached < steps["killed"] == steps["whole"] == 24
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    script = [sys.executable, str(Path(resumable_run.__file__)), str(tmp_path / "run"), "--two"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(script, env=environment, check=True, timeout=240)
    assert finished(tmp_path / "run")["global_step"] == 12, "3 epochs of 16 samples, two batches of 2 at a time"
    model, report = load_checkpoint(tmp_path / "run" / MODEL, backbone=TinyBackbone())
    assert report.complete
    torch.manual_seed(0)
    start = build_posewarper(TinyBackbone(), **TINY)
    assert unchanged(state(start.backbone), model.backbone)
    assert not unchanged(state(start.warping), model.warping)


def test_mixed_precision_trains_float32_weights(tmp_path: Path, tiny: PoseWarper) -> None:
    before = state(tiny.warping)
    mixed = config("warping", epochs=1).model_copy(update={"precision": "bf16-mixed"})
    trained = train(mixed, BlobPairs(4), tmp_path, start=tiny, machine=CPU, progress=False)
    assert finished(tmp_path)["global_step"] == 1
    assert not unchanged(before, trained.warping)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in trained.parameters())


def _wait_for(path: Path, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not path.is_file():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_folders_of_others_are_refused(tmp_path: Path, tiny: PoseWarper) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="holds other files"):
        run("warping", tmp_path, tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_is_not_started_over(tmp_path: Path, tiny: PoseWarper) -> None:
    run("warping", tmp_path, tiny)
    with pytest.raises(RunError, match="holds a run already; resume it"):
        run("warping", tmp_path, tiny)


def test_resuming_needs_a_checkpoint(tmp_path: Path, tiny: PoseWarper) -> None:
    with pytest.raises(RunError, match=r"no last\.ckpt to resume from"):
        run("warping", tmp_path, tiny, resume=True)


def test_resuming_needs_the_same_configuration(tmp_path: Path, tiny: PoseWarper) -> None:
    run("warping", tmp_path, tiny)
    with pytest.raises(RunError, match="not the configuration of this run"):
        run("cycle", tmp_path, tiny, resume=True)


def test_resuming_needs_the_same_inputs(tmp_path: Path, tiny: PoseWarper) -> None:
    run("warping", tmp_path, tiny, inputs={"labels": "these"})
    with pytest.raises(OutputFolderError, match="made with labels = these, not others"):
        run("warping", tmp_path, tiny, inputs={"labels": "others"}, resume=True)


def test_a_run_that_cannot_start_leaves_its_folder_to_the_next(tmp_path: Path, tiny: PoseWarper) -> None:
    with pytest.raises(RunError, match="needs a trained model"):
        train(config("warping"), BlobPairs(), tmp_path / "run", machine=CPU, progress=False)
    with pytest.raises(ValueError, match="only 2 labelled people"):
        run("warping", tmp_path / "run", tiny, BlobPairs(2))
    run("warping", tmp_path / "run", tiny)


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_again(tmp_path: Path, tiny: PoseWarper) -> None:
    class Interrupted(BlobPairs):
        def __getitem__(self, index: int) -> dict:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run("warping", tmp_path, tiny, Interrupted(), inputs={"labels": "those"})
    run("warping", tmp_path, tiny, inputs={"labels": "these"})
    assert json.loads((tmp_path / INPUTS).read_text()) == {"labels": "these"}


def test_an_accelerator_that_is_not_there_is_named(tmp_path: Path, tiny: PoseWarper) -> None:
    with pytest.raises(RunError, match="accelerator = cpu, devices = 0: "):
        run("warping", tmp_path / "run", tiny, machine=Machine("cpu", 0))
    assert not (tmp_path / "run").exists()


def test_the_seed_decides_what_is_not_in_the_checkpoint() -> None:
    def weights(seed: int, disturbance: int) -> dict[str, Tensor]:
        torch.manual_seed(disturbance)
        settings = load_config("demo_warping", ["model.num_blocks=1", f"seed={seed}"])
        model = start_model(settings, DEMO)
        assert model is not None
        return state(model.warping)

    first, again, other = weights(3, 0), weights(3, 1), weights(4, 0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_cycle_needs_a_trained_warp(tmp_path: Path) -> None:
    settings = load_config("demo_warping", ["stage=cycle"])
    save_checkpoint(settings.build_model(), tmp_path / "stage_1.pt")
    with pytest.raises(RunError, match=r"stage_1\.pt: its warping part is not trained"):
        start_model(settings, tmp_path / "stage_1.pt")
    assert start_model(settings, DEMO) is not None


def test_stage_2_needs_a_trained_model(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="warping needs a trained model"):
        train(config("warping"), BlobPairs(), tmp_path / "run", machine=CPU, progress=False)


def drawn(loader: ResumableLoader) -> list[list[int]]:
    return [batch["frame"].tolist() for batch in loader]


def loader(**arguments: Any) -> ResumableLoader:
    return ResumableLoader(BlobPairs(13), **{"batch_size": 3, "seed": 5, **arguments})


def test_every_epoch_has_an_order_of_its_own() -> None:
    one = loader()
    first, second = drawn(one), drawn(one)
    assert first != second
    for epoch in (first, second):
        flat = [index for batch in epoch for index in batch]
        assert len(set(flat)) == len(flat) == 12
    assert drawn(loader()) == first
    assert drawn(loader(seed=6)) != first


@pytest.mark.parametrize("done", [0, 1, 3, 4, 6, 8])
def test_a_loader_goes_on_where_it_was(done: int) -> None:
    one = loader()
    everything = [batch for _ in range(3) for batch in drawn(one)]
    later = loader()
    later.load_state_dict({"delivered": done})
    rest = []
    while len(rest) < len(everything) - done:
        rest += drawn(later)
    assert rest == everything[done:]


@pytest.mark.slow
def test_samples_differ_from_epoch_to_epoch_and_not_with_the_workers() -> None:
    """Nor do workers hang where this process has used OpenCV's threads before, which forked ones can."""

    def pictures(workers: int) -> list[Tensor]:
        one = ResumableLoader(BlurredBlobs(13), batch_size=3, seed=5, workers=workers)
        return [batch["image"] for _ in range(2) for batch in one]

    torch.manual_seed(1)
    alone = pictures(0)
    torch.manual_seed(2)
    helped = pictures(1)
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))
    flat = torch.cat(alone).flatten(1)
    assert len(flat.unique(dim=0)) == len(flat) == 24, "no sample is drawn alike twice"


def test_no_worker_is_forked() -> None:
    settings = worker_settings(1)
    assert settings["multiprocessing_context"] == "spawn"
    assert 0 < settings["timeout"] < float("inf")


def test_processes_share_an_epoch() -> None:
    shares = [drawn(loader(rank=rank, ranks=2)) for rank in range(2)]
    assert [len(share) for share in shares] == [2, 2]
    flat = [index for share in shares for batch in share for index in batch]
    assert len(set(flat)) == 12


def test_too_few_samples_are_named() -> None:
    with pytest.raises(ValueError, match=r"batch_size: is 20 .* only 13 labelled people"):
        loader(batch_size=20)
