"""``posewarper synth``: a synthetic data set in PoseTrack18's format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from posewarper_models.data.synthetic import SceneSettings
from posewarper_models.data.synthetic.writing import write_clips

DEFAULT = SceneSettings()


def synth(
    folder: Annotated[Path, typer.Argument(help="Where to; is created. Started again, it goes on where it stopped.")],
    clips: Annotated[int, typer.Option(help="How many clips.")] = 20,
    split: Annotated[str, typer.Option(help="Name of this part of the data set.")] = "train",
    seed: Annotated[int, typer.Option(help="Give every split a seed of its own.")] = 0,
    width: Annotated[int, typer.Option(help="Pixels.")] = DEFAULT.width,
    height: Annotated[int, typer.Option(help="Pixels.")] = DEFAULT.height,
    frames: Annotated[int, typer.Option(help="Frames a clip.")] = DEFAULT.frames,
    fps: Annotated[float, typer.Option(help="Frames a second of the camera.")] = DEFAULT.fps,
    stride: Annotated[int, typer.Option(help="Every how many camera frames one is written.")] = DEFAULT.stride,
    speed: Annotated[float, typer.Option(help="Of all motion; 1 is natural.")] = DEFAULT.speed,
    shutter: Annotated[float, typer.Option(help="Seconds the shutter is open: motion blur.")] = DEFAULT.shutter,
    people_min: Annotated[int, typer.Option(help="Fewest people in a clip.")] = DEFAULT.people_min,
    people_max: Annotated[int, typer.Option(help="Most people in a clip.")] = DEFAULT.people_max,
    action: Annotated[
        list[str] | None, typer.Option(help="walk, wave or turn; repeat for several. All, if none.")
    ] = None,
    figure_height: Annotated[float, typer.Option(help="Of the main figure, in frame heights.")] = DEFAULT.figure_height,
    occluders: Annotated[float, typer.Option(help="Expected number in front of the people.")] = DEFAULT.occluders,
    camera: Annotated[float, typer.Option(help="The camera's motion; 1 is hand-held.")] = DEFAULT.camera,
    lighting: Annotated[float, typer.Option(help="How much the light changes, as a share.")] = DEFAULT.lighting,
    contrast: Annotated[float, typer.Option(help="Of the patterns of clothes.")] = DEFAULT.contrast,
    noise: Annotated[float, typer.Option(help="Of the sensor, grey levels of 255.")] = DEFAULT.noise,
    workers: Annotated[int, typer.Option(help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Write synthetic clips: textured figures that walk, wave and turn, with the labels of PoseTrack18."""
    settings = SceneSettings(
        width=width,
        height=height,
        frames=frames,
        fps=fps,
        stride=stride,
        speed=speed,
        shutter=shutter,
        people_min=people_min,
        people_max=people_max,
        actions=tuple(action) if action else DEFAULT.actions,
        figure_height=figure_height,
        occluders=occluders,
        camera=camera,
        lighting=lighting,
        contrast=contrast,
        noise=noise,
    )
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        for _ in progress.track(write_clips(folder, settings, clips, seed, split, workers), clips, description="clips"):
            pass
    console.print(f"{clips} clips of {frames} frames, {width} x {height}: PoseTrack18, synthetic ground truth")
    console.print(f"images in {folder / 'images' / split}, labels in {folder / 'annotations' / split}", soft_wrap=True)
