"""``posewarper experiment`` and ``posewarper report``: the paper's experiments, and the document of their results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

RESULTS = Path("docs/experiments")
DOCUMENT = Path("docs/experiments.md")


def experiment(
    names: Annotated[
        list[str],
        typer.Argument(
            help="propagation, motion, labels, aggregation, offsets, dilations, backends, compactness; or all. Several "
            "share what they train."
        ),
    ],
    config: Annotated[str, typer.Option(help="small (two CPU cores), paper (GPUs), or smoke (a test).")] = "small",
    seed: Annotated[list[int] | None, typer.Option(help="Repeat for several. 0, if none.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="PoseTrack: a folder with annotations/train and annotations/val. Synthetic, if none.",
            resolve_path=True,
        ),
    ] = None,
    work: Annotated[Path, typer.Option(help="Videos, models, predictions: to go on, and to use again.")] = Path(
        "runs/experiments"
    ),
    results: Annotated[Path, typer.Option(help="Folder of results.")] = RESULTS,
    accelerator: Annotated[str, typer.Option(help="Lightning's: cpu, gpu, auto.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that load data in training.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Run experiments of the paper: videos, training, measurement. Run again, it goes on where it was stopped."""
    # Imported here, so that help is shown at once.
    from posewarper_models.experiments.registry import EXPERIMENTS, run
    from posewarper_models.experiments.results import path_of, require_videos
    from posewarper_models.experiments.settings import load_study
    from posewarper_models.experiments.videos import PoseTrackVideos, SyntheticVideos, Videos
    from posewarper_models.experiments.workspace import Workspace
    from posewarper_models.recipes import keep_recipe
    from posewarper_models.train.run import Machine

    wanted = list(EXPERIMENTS) if names == ["all"] else names
    unknown = [name for name in wanted if name not in EXPERIMENTS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(EXPERIMENTS)}", param_hint="NAMES")
    study = load_study(config).for_data() if data else load_study(config)
    folder = work / config / (data.name if data else "synthetic")
    if data:
        keep_recipe(folder / "data.json", {"data": str(data)})
    videos: Videos = PoseTrackVideos(data) if data else SyntheticVideos(study.videos, folder / "videos", not quiet)
    machine = Machine(accelerator, 1, workers)
    console = Console()
    for number in seed or [0]:
        space = Workspace(study, videos, folder, results / config, number, machine, not quiet)
        for name in wanted:
            path = path_of(results, name, config, number)
            if path.exists():
                require_videos(path, videos.name)
                console.print(f"{path} is there already", soft_wrap=True)
                continue
            console.print(f"{name}, seed {number} ...")
            console.print(f"result in {run(name, config, space, results)}", soft_wrap=True)


def report(
    results: Annotated[Path, typer.Option(help="Folder of results.")] = RESULTS,
    document: Annotated[Path, typer.Option(help="Markdown file to write.")] = DOCUMENT,
) -> None:
    """Write the document and the figures of all results that there are."""
    from posewarper_models.experiments.report import write_report

    write_report(results, document)
    Console().print(f"written to {document}", soft_wrap=True)
