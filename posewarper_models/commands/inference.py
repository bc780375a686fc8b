"""What ``posewarper propagate`` and ``aggregate`` share: model, clips, and a folder that is gone on with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from posewarper_models.commands.data import read_clips
from posewarper_models.data.annotations import AnnotationError, Clip, Labels, Person
from posewarper_models.data.clips import FPS, open_video
from posewarper_models.data.posetrack import read_posetrack, write_posetrack
from posewarper_models.recipes import OutputFolderError, check_folder, fingerprint, keep_recipe

RECIPE = "settings.json"
SHOWN = 360  # pixels: overlays of smaller frames are enlarged to about this height


class Decoder(str, Enum):
    """Names of :data:`posewarper_models.inference.DECODINGS`."""

    authors = "authors"
    subpixel = "subpixel"


class Overlay(str, Enum):
    """Kinds of video."""

    mp4 = "mp4"
    gif = "gif"
    none = "none"


ModelOption = Annotated[
    Path | None, typer.Option("--model", help="Checkpoint; see `convert`. The small synthetic model, if none.")
]
DataOption = Annotated[Path | None, typer.Option(help="Folder that the images' names in the labels start from.")]
VideoOption = Annotated[Path | None, typer.Option(help="Video, or folder of images, that the labels belong to.")]
DecodingOption = Annotated[
    Decoder, typer.Option(help="How joints are read from heatmaps: the authors' quarter pixel, or blur and parabola.")
]
OverlayOption = Annotated[Overlay, typer.Option(help="Video of the poses drawn into the frames.")]
PanelOption = Annotated[bool, typer.Option(help="Picture of what the warping part does to one pair of frames.")]
DeviceOption = Annotated[str, typer.Option(help="PyTorch's: cpu, cuda, cuda:1, ...")]


def frames_of(data: Path | None, video: Path | None) -> Path:
    """The folder or the video that the frames come from.

    Raises:
        ValueError: not exactly one of them is named.
    """
    if data is not None and video is None:
        return data
    if video is not None and data is None:
        return video
    raise ValueError("--data, --video: name one of them, where the frames are")


def opened(labels: Path, data: Path | None, video: Path | None, console: Console) -> list[Clip]:
    """Clips of labels, with their frames from a data set's folder or from one video.

    Raises:
        ValueError: not exactly one of ``data`` and ``video`` is named, or labels and frames do not belong together.
    """
    frames = frames_of(data, video)
    if data is not None:
        return read_clips(frames, labels, console)
    found = read_posetrack(labels)
    if len(found) > 1:
        raise AnnotationError(f"{labels}: holds {len(found)} clips, but --video is one; name --data")
    return [open_video(frames, found[0])]


def load(model: Path | None, device: str) -> tuple[Any, str]:
    """The model on a device, and a fingerprint of its file.

    Raises:
        CheckpointError: the file cannot be used.
        ValueError: PyTorch does not know the device, or it is not there.
    """
    import torch

    from posewarper_models.checkpoints import DEMO, load_checkpoint

    path = model or DEMO
    network, _ = load_checkpoint(path)
    try:
        network = network.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device: {device}: {str(error).splitlines()[0]}") from error
    return network, fingerprint(path)


def check_warps(network: Any, model: Path | None) -> None:
    """Raises :class:`CheckpointError` where the warp is the identity still: labels would be copied, not carried."""
    from posewarper_models.checkpoints import CheckpointError

    if not network.warping.trained:
        raise CheckpointError(
            f"{model}: its warping part is not trained, it moves nothing; train stage 2 from it (`posewarper train`), "
            "or `aggregate --weights single`, which does not warp"
        )


@dataclass(frozen=True)
class Outputs:
    """The folder of one inference, and what is written for every clip besides labels."""

    folder: Path
    overlay: Overlay
    panel: bool

    def prepare(self, recipe: Mapping[str, Any], clips: list[Clip]) -> None:
        """Creates the folder; one with the same recipe is gone on with.

        Raises:
            OutputFolderError: it holds something else.
        """
        check_folder(self.folder)
        inside = sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []
        if inside and RECIPE not in inside:
            raise OutputFolderError(
                f"{self.folder}: holds other files ({', '.join(inside[:3])}); name a new or an empty folder"
            )
        keep_recipe(self.folder / RECIPE, {**recipe, "clips": [clip.id for clip in clips]})

    def labels(self, clip: Clip) -> Path:
        """Where a clip's result goes; it is there once the clip is complete."""
        return self.folder / "labels" / f"{clip.id}.json"

    def boxes(self, clip: Clip) -> Path:
        """Where detected boxes go."""
        return self.folder / "boxes" / f"{clip.id}.json"

    def partial(self, clip: Clip) -> Path:
        """Where the frames that are done are kept."""
        return self.folder / f"{clip.id}.partial"

    def draw(self, clip: Clip, result: Labels, panel: Callable[[Path], None], labelled: Collection[int] = ()) -> None:
        """The overlay and the panel, unless they are there."""
        from posewarper_models.draw import overlay, write_video

        path = self.folder / f"{clip.id}.{self.overlay.value}"
        if self.overlay is not Overlay.none and not path.exists():
            zoom = max(round(SHOWN / clip.frames[0].shape[0]), 1)
            write_video(overlay(clip, result, zoom, list(labelled)), path, clip.fps or FPS)
        path = self.folder / f"{clip.id}_panel.png"
        if self.panel and not path.exists():
            panel(path)


def pair_panel(model: Any, clip: Clip, wanted: int, support: int, person: Person) -> Callable[[Path], None]:
    """Draws how one person's heatmap of frame ``support`` is warped to frame ``wanted``."""

    def draw(path: Path) -> None:
        from posewarper_models.data.crops import crop_around
        from posewarper_models.inference import crops
        from posewarper_models.panel import draw_warping, look_into

        crop = crop_around(person.box, model.image_size)
        draw_warping(look_into(model, *crops(model, clip.frames, [wanted, support], crop)), path)

    return draw


def with_progress(
    console: Console, clip: Clip, total: int, found: Iterator[tuple[int, list[Person]]]
) -> Iterator[tuple[int, list[Person]]]:
    """The same frames, with a bar that shows the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(found, total, description=clip.id)


def finish(result: Labels, path: Path, console: Console) -> Labels:
    """Writes a clip's labels and says so."""
    write_posetrack([result], path)
    console.print(f"{result}: {path}", soft_wrap=True, highlight=False)
    return result
