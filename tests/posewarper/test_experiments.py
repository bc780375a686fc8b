"""The paper's experiments: every one of them from videos to the document, small enough to mean nothing."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError

from posewarper_models.checkpoints import DEMO, load_checkpoint
from posewarper_models.cli import main
from posewarper_models.experiments import results
from posewarper_models.experiments.registry import EXPERIMENTS, settings_of
from posewarper_models.experiments.report import write_report
from posewarper_models.experiments.results import Result, ResultError
from posewarper_models.experiments.settings import Schedule, available_studies, load_study
from posewarper_models.experiments.tables import Page
from posewarper_models.experiments.training import trained
from posewarper_models.recipes import OutputFolderError
from posewarper_models.train.config import ConfigError
from posewarper_models.train.run import INPUTS, Machine, RunError, start_model

DOCUMENTS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class SmokeRun:
    """Where it left what."""

    work: Path
    results: Path

    def measured(self, name: str) -> dict:
        return results.load(results.path_of(self.results, name, "smoke", 0)).measured


def posewarper(*arguments: str | Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["posewarper", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
    return int(stop.value.code or 0)


def experiment(work: Path, folder: Path, *arguments: str) -> int:
    options = ["--config=smoke", f"--work={work}", f"--results={folder}", "--accelerator=cpu", "--quiet"]
    return posewarper("experiment", *arguments, *options)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> SmokeRun:
    """All experiments of one seed."""
    folder = tmp_path_factory.mktemp("smoke")
    run = SmokeRun(folder / "work", folder / "docs" / "experiments")
    assert experiment(run.work, run.results, "all") == 0
    return run


@pytest.mark.slow
def test_every_experiment_leaves_a_result_that_says_where_it_comes_from(smoke: SmokeRun) -> None:
    for name in EXPERIMENTS:
        result = results.load(results.path_of(smoke.results, name, "smoke", 0))
        assert (result.experiment, result.configuration, result.seed) == (name, "smoke", 0)
        assert result.videos == "synthetic videos"
        assert result.settings == settings_of(load_study("smoke"), name)
        assert {"commit", "versions", "machine", "seconds", "finished"} == set(result.provenance)
        assert result.measured


@pytest.mark.slow
def test_all_methods_of_propagation_have_the_same_joints_to_find(smoke: SmokeRun) -> None:
    methods = smoke.measured("propagation")["regimes"]["slow"]
    assert {"copy", "farneback", "farneback-chained", "dis", "learned", "network", "posewarper", "cycle"} <= set(
        methods
    )
    for kind in ("distance", "visibility"):
        counts = [method[kind]["count"] for method in methods.values()]
        assert all(count == counts[0] for count in counts)
        assert np.sum(counts[0]) > 50
    assert np.sum(methods["copy"]["distance"]["count"]) == np.sum(methods["copy"]["visibility"]["count"])


@pytest.mark.slow
def test_offsets_and_flow_have_a_regression_each(smoke: SmokeRun) -> None:
    measured = smoke.measured("offsets")
    assert set(measured["penalties"]) == {"farneback-linear", "offsets"}
    assert set(measured["pixels"]) == {"still", "farneback", "farneback-linear", "offsets"}


@pytest.mark.slow
def test_both_backends_have_the_same_loss_curve(smoke: SmokeRun) -> None:
    curves = smoke.measured("backends")
    assert curves["deformwarp"] == pytest.approx(curves["torchvision"], rel=1e-5)
    assert curves["deformwarp"] == pytest.approx(curves["float64"], rel=1e-5)


@pytest.mark.slow
def test_started_again_nothing_is_measured_or_trained_again(
    smoke: SmokeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {path: path.stat().st_mtime_ns for path in smoke.results.rglob("*.json")}
    models = {path: path.stat().st_mtime_ns for path in smoke.work.rglob("model.pt")}
    dilations = results.path_of(smoke.results, "dilations", "smoke", 0)
    before = results.load(dilations).measured
    dilations.unlink()
    assert experiment(smoke.work, smoke.results, "propagation", "dilations") == 0
    assert "propagation-seed0.json is there already" in capsys.readouterr().out.replace("\n", "")
    assert results.load(dilations).measured == before
    assert {path: path.stat().st_mtime_ns for path in models} == models
    assert {path: path.stat().st_mtime_ns for path in kept if path != dilations} == {
        path: time for path, time in kept.items() if path != dilations
    }


@pytest.mark.slow
def test_a_stage_of_another_configuration_is_not_taken_for_this_one(smoke: SmokeRun) -> None:
    folder = next(smoke.work.rglob("model.pt")).parent
    study = load_study("smoke")
    other = study.stage("heatmaps", study.heatmaps, seed=7)
    with pytest.raises(RunError, match="not the configuration of this run"):
        trained(other, [], folder, inputs={}, samples_an_epoch=None, start=None, machine=Machine(), progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["samples_an_epoch", "labels", "start"])
def test_a_stage_made_of_other_inputs_is_not_taken_for_this_one(change: str, smoke: SmokeRun) -> None:
    folder = smoke.work / "smoke" / "synthetic" / "seed-0" / "heatmaps"
    study = load_study("smoke")
    there = json.loads((folder / INPUTS).read_text())
    other = {**there, change: 7}
    with pytest.raises(OutputFolderError, match=f"made with {change} = {there[change]}, not 7"):
        trained(
            study.stage("heatmaps", study.heatmaps, seed=0),
            [],
            folder,
            inputs=other,
            samples_an_epoch=other["samples_an_epoch"],
            start=None,
            machine=Machine(),
            progress=False,
        )


def test_a_result_on_other_videos_is_not_taken_for_this_one(tmp_path: Path) -> None:
    path = results.save(some_result(0), tmp_path)
    results.require_videos(path, "synthetic videos")
    with pytest.raises(ResultError, match="is a result on synthetic videos, not on the data set posetrack"):
        results.require_videos(path, "the data set posetrack")


@pytest.mark.slow
def test_a_result_on_other_videos_stops_the_command(smoke: SmokeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiment(smoke.work, smoke.results, "dilations", "--data=posetrack") == 2
    assert "is a result on synthetic videos" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.slow
def test_the_document_has_every_result_and_its_figures(smoke: SmokeRun, tmp_path: Path) -> None:
    folder = tmp_path / "docs" / "experiments"
    shutil.copytree(smoke.results / "smoke", folder / "small")
    write_report(folder, tmp_path / "docs" / "experiments.md")
    small, paper = (tmp_path / "docs" / "experiments.md").read_text().split("## Configuration `small`")[::-1]
    assert "No results yet" not in small
    assert paper.count("No results yet") == len(EXPERIMENTS)
    for name in EXPERIMENTS:
        assert f"](experiments/small/{name}.svg)" in small
        assert (folder / "small" / f"{name}.svg").stat().st_size > 1000
    assert (folder / "small" / "offsets-seed0.png").is_file()
    assert "PoseWarper - per-frame network, true box of B" in small
    assert "| PCK@0.5 | PCK@0.2 | PCK@0.5, visible | PCK@0.2, visible |" in small
    assert "PCK@0.5 by joint, motion: slow" in small
    assert "δ = -3…3, sum - δ = 0 alone, warped" in small
    assert "linear in Farneback's flow" in small
    assert "nan" not in small.replace("dominant", "")


def test_a_figure_of_the_same_results_is_the_same_file(tmp_path: Path) -> None:
    pages = [Page(tmp_path / name, name, resamplings=10) for name in ("one", "other")]
    for page in pages:
        figure = Figure()
        axes = figure.subplots()
        axes.plot([1, 2], marker="o")  # a marker has a name in the file
        assert page.shown(figure, "line", "A line") == f"![A line]({page.link}/line.svg)"
    one, other = ((page.images / "line.svg").read_bytes() for page in pages)
    assert one == other


@pytest.mark.slow
def test_the_document_is_that_of_the_results_beside_it(tmp_path: Path) -> None:
    shutil.copytree(DOCUMENTS / "experiments", tmp_path / "docs" / "experiments")
    write_report(tmp_path / "docs" / "experiments", tmp_path / "docs" / "experiments.md")
    there, made = (folder / "experiments.md" for folder in (DOCUMENTS, tmp_path / "docs"))
    assert there.read_text(encoding="utf-8") == made.read_text(encoding="utf-8"), "make it again: posewarper report"


def test_a_result_of_an_older_form_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    bootstrap = {"bootstrap": 50}
    old = Result("dilations", "small", 0, "videos", bootstrap, results.provenance(1.0), {"main": {"tally": {}}})
    results.save(old, tmp_path / "experiments")
    with pytest.raises(ResultError, match=r"dilations-seed\*\.json: measured: 'distance' is missing"):
        write_report(tmp_path / "experiments", tmp_path / "experiments.md")


def test_without_results_the_document_says_so(tmp_path: Path) -> None:
    write_report(tmp_path / "experiments", tmp_path / "experiments.md")
    text = (tmp_path / "experiments.md").read_text()
    assert text.count("**No results yet.**") == 2 * len(EXPERIMENTS)
    assert load_study("small").about in text


def test_findings_stand_above_the_tables_of_their_configuration(tmp_path: Path) -> None:
    findings = tmp_path / "experiments" / "small" / "findings.md"
    findings.parent.mkdir(parents=True)
    findings.write_text("Flow loses where joints are hidden.\n")
    write_report(tmp_path / "experiments", tmp_path / "experiments.md")
    paper, small = (tmp_path / "experiments.md").read_text().split("## Configuration `small`")
    assert "What was found\n" not in paper
    assert 0 < small.index("### What was found\n\nFlow loses where joints are hidden.") < small.index("### Propagation")


@pytest.mark.parametrize("name", available_studies())
def test_the_configurations_that_come_along_can_be_used(name: str) -> None:
    study = load_study(name)
    for stage, schedule in (("heatmaps", study.heatmaps), ("warping", study.warping), ("cycle", study.cycle)):
        assert study.stage(stage, schedule, seed=3).build_model
    assert study.labels.cells


def test_small_configuration_starts_from_the_packages_weights() -> None:
    study = load_study("small")
    model = start_model(study.stage("heatmaps", study.heatmaps, seed=0), study.start_checkpoint)
    demo = load_checkpoint(DEMO)[0]
    assert model is not None
    for name, weights in demo.backbone.state_dict().items():
        torch.testing.assert_close(model.backbone.state_dict()[name], weights)
    assert model.warping.warp.dilations == study.dilations["main"]


def test_paper_configuration_is_the_papers() -> None:
    study = load_study("paper")
    config = study.stage("warping", study.warping, seed=0)
    assert (config.model.backbone, config.data.image_size, config.data.sigma) == ("hrnet_w48", (384, 288), 3.0)
    assert (config.model.num_blocks, config.model.channels, config.model.dilations) == (20, 128, (3, 6, 12, 18, 24))
    assert (config.schedule.epochs, config.schedule.milestones, config.schedule.learning_rate) == (20, (10, 15), 1e-4)


def test_unknown_configurations_and_experiments_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config: is 'large', but should be one of paper, small, smoke"):
        load_study("large")
    assert posewarper("experiment", "table9", "--config=smoke", f"--work={tmp_path}", f"--results={tmp_path}") == 2
    assert "'table9' is not one of propagation, motion" in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "experiments"),
    [
        ({"about": "in other words"}, set()),
        ({"equality_steps": 7}, {"backends"}),
        ({"every": 5}, set(EXPERIMENTS)),
    ],
    ids=["description", "of one experiment", "of all"],
)
def test_results_depend_on_the_settings_that_they_were_made_with(
    change: dict[str, object], experiments: set[str]
) -> None:
    study = load_study("smoke")
    other = study.model_copy(update=change)
    assert {name for name in EXPERIMENTS if settings_of(study, name) != settings_of(other, name)} == experiments


def test_a_schedule_says_the_steps_that_are_trained() -> None:
    with pytest.raises(ValidationError, match="steps: is 450, but should be a multiple of epochs = 20"):
        Schedule(steps=450)


def test_on_a_data_set_its_own_frame_rate_is_the_main_regime() -> None:
    study = load_study("paper")
    assert (study.main, study.for_data().main) == ("moderate", "slow")
    assert load_study("small").for_data() == load_study("small")


def some_result(seed: int, **settings: int) -> Result:
    return Result("dilations", "small", seed, "synthetic videos", settings, results.provenance(1.0), {})


def test_a_result_is_not_overwritten(tmp_path: Path) -> None:
    path = results.save(some_result(0), tmp_path)
    before = path.read_bytes()
    with pytest.raises(ResultError, match=r"dilations-seed0\.json: exists"):
        results.save(some_result(0, other=1), tmp_path)
    assert path.read_bytes() == before


def test_seeds_of_different_settings_are_not_put_together(tmp_path: Path) -> None:
    results.save(some_result(0, steps=1), tmp_path)
    results.save(some_result(1, steps=2), tmp_path)
    with pytest.raises(ResultError, match=r"seeds (0 and 1|1 and 0)"):
        results.results_of(tmp_path, "dilations", "small")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read as JSON"), (json.dumps({"experiment": "x"}), "configuration: is missing")],
)
def test_broken_results_are_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "small" / "dilations-seed0.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ResultError, match=message):
        results.results_of(tmp_path, "dilations", "small")
