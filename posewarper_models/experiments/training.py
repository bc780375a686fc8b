"""One stage of training in a folder: done, to be resumed, or to be started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from posewarper_models.checkpoints import load_checkpoint
from posewarper_models.network import PoseWarper
from posewarper_models.train.config import Config
from posewarper_models.train.run import LAST, MODEL, Machine, check_run, start_model, train


class Drawn(Dataset[dict[str, Any]]):
    """As many samples as wanted, each drawn at random: an epoch does not depend on how many there are.

    Args:
        samples: takes what randomness it has from PyTorch's generator, as this does.
        length: how many.
    """

    def __init__(self, samples: Dataset[dict[str, Any]], length: int) -> None:
        self.samples, self.length = samples, length
        self.there = len(samples)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.samples[int(torch.randint(self.there, ()))]


def trained(
    config: Config,
    samples: Dataset[dict[str, Any]],
    folder: Path,
    *,
    inputs: Mapping[str, Any],
    samples_an_epoch: int | None,
    start: Path | None,
    machine: Machine,
    progress: bool,
) -> PoseWarper:
    """The model of a stage, in evaluation mode: loaded where it is done, else trained from where it was stopped.

    Args:
        config: of the stage.
        samples: training data.
        folder: of the stage alone.
        inputs: see :func:`posewarper_models.train.run.train`.
        samples_an_epoch: None for as many as there are.
        start: checkpoint to start from; None for random weights.
        machine: what to compute on.
        progress: whether to show a bar.

    Raises:
        RunError: the folder holds a stage of another configuration.
        OutputFolderError: the folder holds a stage made of other inputs.
    """
    inputs = {**inputs, "samples_an_epoch": samples_an_epoch}
    if (folder / MODEL).is_file():
        check_run(folder, config, inputs)
        return load_checkpoint(folder / MODEL)[0]
    train(
        config,
        samples if samples_an_epoch is None else Drawn(samples, samples_an_epoch),
        folder,
        start=start_model(config, start),
        inputs=inputs,
        resume=(folder / LAST).is_file(),
        machine=machine,
        progress=progress,
    )
    return load_checkpoint(folder / MODEL)[0]
