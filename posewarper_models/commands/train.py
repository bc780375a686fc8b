"""``posewarper train``: one stage of training, from a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from posewarper_models.commands.data import read_clips
from posewarper_models.train.config import available, load_config


def train(
    config: Annotated[str, typer.Argument(help=f"{', '.join(available())}; or a YAML file.")],
    data: Annotated[Path, typer.Argument(help="Folder of the data set; images are named relative to it.")],
    out: Annotated[Path, typer.Argument(help="Folder of this run: model.pt, last.ckpt, log. Is created.")],
    start: Annotated[Path | None, typer.Option(help="Checkpoint to start from; see `posewarper convert`.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labels: JSON file or folder of them. DATA/annotations/SPLIT, if none.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which labels of DATA.")] = "train",
    validation: Annotated[str | None, typer.Option(help="A split whose loss is logged after each epoch.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run in OUT was stopped.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE of the configuration.")] = None,
    accelerator: Annotated[str, typer.Option(help="Lightning's: cpu, gpu, auto.")] = "auto",
    devices: Annotated[str, typer.Option(help="Lightning's: how many.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that load data, for each device.")] = 0,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 200,
) -> None:
    """Train one stage: heatmaps of single frames, warping, or cycle consistency."""
    # Imported here, so that help is shown at once.
    from posewarper_models.train.run import Machine, inputs_of, start_model
    from posewarper_models.train.run import train as run
    from posewarper_models.train.samples import training_samples, validation_samples

    console = Console()
    settings = load_config(config, set_ or [])
    clips = read_clips(data, labels or data / "annotations" / split, console)
    samples = training_samples(clips, settings)
    held_out = None
    if validation is not None:
        held_out = validation_samples(read_clips(data, data / "annotations" / validation, console), settings)
    console.print(f"{len(samples)} labelled people to learn from, stage {settings.stage}")
    run(
        settings,
        samples,
        out,
        start=start_model(settings, start),
        inputs=inputs_of(clips, start),
        validation=held_out,
        resume=resume,
        machine=Machine(accelerator, int(devices) if devices.isdecimal() else devices, workers, checkpoint_every),
    )
    console.print(f"the model is in {out / 'model.pt'}", soft_wrap=True)
