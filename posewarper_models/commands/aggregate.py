"""``posewarper aggregate``: the joints of people in boxes, from each frame and those around it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from posewarper_models.commands.inference import (
    DataOption,
    Decoder,
    DecodingOption,
    DeviceOption,
    ModelOption,
    Outputs,
    Overlay,
    OverlayOption,
    PanelOption,
    VideoOption,
    check_warps,
    finish,
    frames_of,
    load,
    opened,
    pair_panel,
    with_progress,
)
from posewarper_models.data.annotations import Box, Clip, digest
from posewarper_models.data.clips import open_video
from posewarper_models.recipes import fingerprint, frames_at
from posewarper_models.video import Image


class Weighting(str, Enum):
    """Names of :data:`posewarper_models.aggregate.WEIGHTS`."""

    paper = "paper"
    authors = "authors"
    single = "single"


def aggregate(
    out: Annotated[Path, typer.Argument(help="Folder for the results. Started again, it goes on where it stopped.")],
    boxes: Annotated[
        Path | None, typer.Option(help="Person boxes: PoseTrack JSON, or a folder of them; joints may be left out.")
    ] = None,
    data: DataOption = None,
    video: VideoOption = None,
    detector: Annotated[
        Path | None, typer.Option(help="torchvision's weights of fasterrcnn_mobilenet_v3_large_320_fpn, for boxes.")
    ] = None,
    weights: Annotated[Weighting, typer.Option(help="Of the frames; single uses no warp.")] = Weighting.paper,
    model: ModelOption = None,
    decoding: DecodingOption = Decoder.subpixel,
    overlay: OverlayOption = Overlay.mp4,
    panel: PanelOption = True,
    device: DeviceOption = "cpu",
) -> None:
    """Write the joints of people in boxes (JSON), an overlay and a panel for every clip."""
    # Imported here, so that help is shown at once.
    from posewarper_models.aggregate import WEIGHTS, with_joints
    from posewarper_models.aggregate import aggregate as joints_of
    from posewarper_models.data.posetrack import read_posetrack
    from posewarper_models.detect import Detector
    from posewarper_models.inference import DECODINGS
    from posewarper_models.partial import resumable

    console = Console()
    clips = _clips(boxes, data, video, detector, console)
    network, checkpoint = load(model, device)
    if WEIGHTS[weights.value]:
        check_warps(network, model)
    find = None if detector is None else Detector(detector)
    outputs = Outputs(out, overlay, panel)
    recipe = {
        "command": "aggregate",
        "frames": frames_at(frames_of(data, video)),
        "boxes": digest(clip.labels for clip in clips),
        "detector": None if detector is None else fingerprint(detector),
        "model": checkpoint,
        "weights": weights.value,
        "decoding": decoding.value,
    }
    outputs.prepare(recipe, clips)
    for clip in clips:
        if find is not None:
            clip = _with_boxes(clip, find, outputs.boxes(clip), console)
        path = outputs.labels(clip)
        peopled = [index for index, frame in enumerate(clip.labels.frames) if frame.people]
        looked_at = {*peopled, *clip.labels.labelled}
        if path.exists():
            (result,) = read_posetrack(path)
        else:
            found = resumable(
                outputs.partial(clip),
                clip.labels,
                lambda done, clip=clip: joints_of(  # type: ignore[misc]
                    network,
                    clip.frames,
                    clip.labels,
                    weights=WEIGHTS[weights.value],
                    decoding=DECODINGS[decoding.value],
                    done=done,
                ),
            )
            shown = with_progress(console, clip, len(looked_at), found)
            result = finish(with_joints(clip.labels, shown, f"PoseWarper, {weights.value} weights,"), path, console)
        if peopled:
            middle = peopled[len(peopled) // 2]
            person = clip.labels.frames[middle].people[0]
            outputs.draw(clip, result, pair_panel(network, clip, middle, max(middle - 1, 0), person))


def _clips(
    boxes: Path | None, data: Path | None, video: Path | None, detector: Path | None, console: Console
) -> list[Clip]:
    if (boxes is None) == (detector is None):
        raise ValueError("--boxes, --detector: name one of them, where the people's boxes come from")
    if boxes is not None:
        return opened(boxes, data, video, console)
    if video is None:
        raise ValueError("--video: name the video to detect people in")
    return [open_video(video)]


def _with_boxes(clip: Clip, detector: Callable[[Image], list[Box]], path: Path, console: Console) -> Clip:
    """The clip with detected boxes, which are kept in a file."""
    from posewarper_models.aggregate import with_joints
    from posewarper_models.data.posetrack import read_posetrack
    from posewarper_models.detect import detect

    if path.exists():
        (labels,) = read_posetrack(path)
        return clip.relabelled(labels)
    found = with_progress(console, clip, len(clip), detect(detector, clip.frames))
    return clip.relabelled(finish(with_joints(clip.labels, found, "torchvision's detector,"), path, console))
