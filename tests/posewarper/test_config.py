"""Configurations: the paper's as defaults, one file per experiment, errors that name the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from posewarper_models.train.config import Config, ConfigError, available, load_config

PAPER = Config(stage="warping")


def test_the_defaults_are_the_papers() -> None:
    schedule, data, model = PAPER.schedule, PAPER.data, PAPER.model
    assert (schedule.learning_rate, schedule.milestones, schedule.epochs) == (1e-4, (10, 15), 20)
    assert (data.image_size, data.sigma, data.max_delta) == ((384, 288), 3, 3)
    assert (data.rotation, data.scaling) == (45, 0.35)
    assert (model.backbone, model.num_blocks, model.channels) == ("hrnet_w48", 20, 128)
    assert model.dilations == (3, 6, 12, 18, 24)


@pytest.mark.parametrize("name", available())
def test_every_configuration_of_the_package_is_valid(name: str) -> None:
    load_config(name)


def test_every_experiment_of_the_paper_has_one() -> None:
    experiments = {"heatmaps", "heatmaps_dense", "propagation", "propagation_cycle", "augmentation", "aggregation"}
    assert experiments <= set(available())
    assert load_config("propagation").stage == "warping"
    assert load_config("propagation").data.every == 7
    assert load_config("propagation_cycle").stage == "cycle"
    assert load_config("propagation_cycle").data.every == 7


def test_a_file_extends_another(tmp_path: Path) -> None:
    (tmp_path / "below.yaml").write_text("extends: propagation\nschedule: {epochs: 3, batch_size: 2}\n")
    (tmp_path / "above.yaml").write_text("extends: below\nschedule: {batch_size: 5}\n")
    config = load_config(tmp_path / "above.yaml", ["model.channels=32", "data.every=null"])
    assert (config.stage, config.schedule.epochs, config.schedule.batch_size) == ("warping", 3, 5)
    assert (config.model.channels, config.data.every) == (32, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage: warping\nschedule: {epoch: 3}", r"odd\.yaml: schedule\.epoch: Extra inputs"),
        ("stage: dancing", r"odd\.yaml: stage: Input should be 'heatmaps', 'warping' or 'cycle', but is 'dancing'"),
        ("schedule: {epochs: 3}", r"odd\.yaml: stage: Field required"),
        ("stage: warping\nmodel: {channels: many}", r"model\.channels: .* but is 'many'"),
        ("stage: warping\ndata: {every: 7, per_video: 2}", "every and per_video"),
        ("stage: warping\ndata: {image_size: [100, 96]}", "image_size: is .100, 96., should be positive multiples"),
        ("- a list", "holds list"),
        ("a: [", "cannot be read as YAML"),
        ("extends: odd", "round in a circle"),
        ("extends: nothing", "nothing: no such file"),
    ],
    ids=["extra", "stage", "missing", "type", "labels", "size", "list", "yaml", "circle", "base"],
)
def test_wrong_fields_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "odd.yaml")


@pytest.mark.parametrize("override", ["schedule", "=3", "schedule.epochs=["])
def test_wrong_overrides_are_named(override: str) -> None:
    with pytest.raises(ConfigError):
        load_config("propagation", [override])


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match="there are aggregation, augmentation"):
        load_config("table1")
