"""One training run in one folder: start it, or go on where it was killed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.utils.data import DataLoader, Dataset

from posewarper_models.checkpoints import load_checkpoint, save_checkpoint
from posewarper_models.data.annotations import Clip, digest
from posewarper_models.network import PoseWarper
from posewarper_models.recipes import fingerprint, keep_recipe
from posewarper_models.train.config import Config
from posewarper_models.train.loader import ResumableLoader, Seeded, worker_settings
from posewarper_models.train.modules import STAGES

CONFIG, INPUTS, LAST, MODEL = "config.yaml", "inputs.json", "last.ckpt", "model.pt"
# Lightning warns of what is intended here: few workers, a frozen backbone, a folder with the configuration in it.
EXPECTED = (
    ".*does not have many workers",
    ".*in eval mode at the start of training",
    "Checkpoint directory .* exists and is not empty",
    "The number of training batches .* is smaller than the logging interval",
    "You defined a `validation_step` but have no `val_dataloader`",
    ".*LeafSpec.* is deprecated",
)
Samples = Dataset[dict[str, Any]]


class RunError(ValueError):
    """A run that cannot be started or resumed. The message says why, and what to do."""


@dataclass(frozen=True)
class Machine:
    """What a run computes on; it does not change the result but for rounding."""

    accelerator: str = "auto"
    devices: int | str = "auto"
    workers: int = 0
    checkpoint_every: int = 200  # steps


def train(
    config: Config,
    samples: Samples,
    folder: Path,
    *,
    start: PoseWarper | None = None,
    inputs: Mapping[str, Any] = MappingProxyType({}),
    validation: Samples | None = None,
    resume: bool = False,
    machine: Machine = Machine(),
    progress: bool = True,
) -> PoseWarper:
    """Trains, and leaves ``model.pt``, ``last.ckpt``, the configuration and a log in ``folder``.

    Args:
        config: what to do.
        samples: the training data; see :class:`ResumableLoader`.
        folder: of the run. It is created, and may hold nothing else but a run that was stopped before its first
            checkpoint.
        start: the model to start from. Stages 2 and "cycle" need one; stage 1 builds its own if None.
        inputs: what else decides the result, as plain data: see :func:`inputs_of`. Kept; to be the same on resuming.
        validation: samples whose loss is logged after every epoch.
        resume: whether to go on from ``folder``'s last checkpoint. The result is the same as without the break.
        machine: what to compute on.
        progress: whether to show a bar with the time that is left.

    Raises:
        RunError: the folder holds a run already or something else, there is nothing to resume, the run that is
            there has another configuration, or this machine has no such accelerator.
        OutputFolderError: the run that is there was made of other inputs.
        NonFiniteLossError: names the batch; the last checkpoint is still there.
    """
    trainer = _trainer(config, folder, machine, progress)
    if start is None and config.stage != "heatmaps":
        raise RunError(f"stage: {config.stage} needs a trained model to start from")
    seed_everything(config.seed, verbose=False)
    module = STAGES[config.stage](start or config.build_model(), config).train()
    schedule = config.schedule
    loader = ResumableLoader(
        samples,
        batch_size=schedule.batch_size,
        seed=config.seed,
        workers=machine.workers,
        rank=trainer.global_rank,
        ranks=trainer.world_size,
    )
    after = None
    if validation is not None:
        after = DataLoader(Seeded(validation, config.seed), schedule.batch_size, **worker_settings(machine.workers))
    if trainer.is_global_zero:  # of the processes of one run, the first makes the folder, once nothing is in the way
        _prepare(folder, config, inputs, resume)
    with warnings.catch_warnings():
        for message in EXPECTED:
            warnings.filterwarnings("ignore", message=message)
        trainer.fit(module, loader, after, ckpt_path=folder / LAST if resume else None, weights_only=True)
    trainer.save_checkpoint(folder / LAST)  # the run may have ended between two checkpoints
    module.model.eval()
    if trainer.is_global_zero:
        save_checkpoint(module.model, folder / MODEL, overwrite=True)
    return module.model


class _AtomicCheckpoints(TorchCheckpointIO):
    """A run that is killed while it writes keeps its last checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        unfinished = f"{path}.part"
        super().save_checkpoint(checkpoint, unfinished, storage_options)
        os.replace(unfinished, path)


def inputs_of(clips: Sequence[Clip], start: Path | None) -> dict[str, str | None]:
    """What decides a result besides the configuration: digests of the labels, and of the checkpoint to start from."""
    return {
        "labels": digest(clip.labels for clip in clips),
        "start": None if start is None else fingerprint(start),
    }


def start_model(config: Config, checkpoint: Path | None) -> PoseWarper | None:
    """The model of a checkpoint under the configuration's warping part.

    A stage-1 checkpoint of another size of warping part is no obstacle: only its backbone is taken. What is not in the
    checkpoint starts from the configuration's seed.

    Raises:
        CheckpointError: it cannot be read.
        RunError: its backbone is not the configuration's, or "cycle" is to start from a warping part that is not
            trained: moving nothing is perfectly consistent.
    """
    if checkpoint is None:
        return None
    found, _ = load_checkpoint(checkpoint)
    if config.stage == "cycle" and not found.warping.trained:
        raise RunError(f"{checkpoint}: its warping part is not trained; train stage 2 (warping) first")
    torch.manual_seed(config.seed)
    wanted = config.build_model()
    if found.architecture == wanted.architecture:
        return found
    for name in ("backbone", "num_joints", "backbone_settings"):
        if found.architecture[name] != wanted.architecture[name]:
            raise RunError(
                f"{checkpoint}: {name} is {found.architecture[name]}, but the configuration says "
                f"{wanted.architecture[name]}"
            )
    if config.stage == "cycle":
        raise RunError(f"{checkpoint}: its warping part has another size than the configuration's")
    wanted.backbone.load_state_dict(found.backbone.state_dict())
    return wanted


def _trainer(config: Config, folder: Path, machine: Machine, progress: bool) -> Trainer:
    callbacks: list[Callback] = [
        ModelCheckpoint(
            dirpath=folder,
            filename=Path(LAST).stem,
            every_n_train_steps=machine.checkpoint_every,
            enable_version_counter=False,
        ),
        LearningRateMonitor(),
    ]
    try:
        return Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices,
            precision=config.precision,
            max_epochs=config.schedule.epochs,
            callbacks=[*callbacks, RichProgressBar()] if progress else callbacks,
            enable_progress_bar=progress,
            enable_model_summary=progress,
            plugins=[_AtomicCheckpoints()],
            logger=CSVLogger(folder, name="log"),  # a resumed run logs beside what there is
            log_every_n_steps=10,
            use_distributed_sampler=False,  # the loader knows the rank
            num_sanity_val_steps=0,
        )
    except MisconfigurationException as error:
        raise RunError(f"accelerator = {machine.accelerator}, devices = {machine.devices}: {error}") from error


def check_run(folder: Path, config: Config, inputs: Mapping[str, Any]) -> None:
    """Whether the run in a folder is this one.

    Raises:
        RunError: it has another configuration.
        OutputFolderError: it was made of other inputs.
    """
    kept = folder / CONFIG
    found = yaml.safe_load(kept.read_text(encoding="utf-8")) if kept.is_file() else None
    if found != config.model_dump(mode="json"):
        raise RunError(f"{kept}: is not the configuration of this run; give the same one, or name another folder")
    keep_recipe(folder / INPUTS, inputs)


def _prepare(folder: Path, config: Config, inputs: Mapping[str, Any], resume: bool) -> None:
    """Makes the folder of a new run, or checks that of an old one."""
    if resume:
        if not (folder / LAST).is_file():
            raise RunError(f"{folder}: holds no {LAST} to resume from; start without resuming")
        check_run(folder, config, inputs)
        return
    kept = folder / CONFIG
    stopped = kept.is_file() and not (folder / LAST).is_file()  # before there was anything to go on from
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not stopped:
        what = "a run already; resume it" if kept.is_file() else "other files"
        raise RunError(f"{folder}: holds {what}, or name a new or an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    kept.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    (folder / INPUTS).unlink(missing_ok=True)
    keep_recipe(folder / INPUTS, inputs)
