"""``posewarper propagate``: labels of a few frames, carried to those around them."""

from __future__ import annotations

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
from posewarper_models.data.annotations import AnnotationError, Clip, digest
from posewarper_models.recipes import frames_at


def propagate(
    labels: Annotated[Path, typer.Argument(help="Sparse labels: a PoseTrack JSON file, or a folder of them.")],
    out: Annotated[Path, typer.Argument(help="Folder for the results. Started again, it goes on where it stopped.")],
    data: DataOption = None,
    video: VideoOption = None,
    model: ModelOption = None,
    reach: Annotated[int, typer.Option(help="Frames that labels are carried, at most.")] = 3,
    every: Annotated[int | None, typer.Option(help="Use labels of frames 0, k, 2 k, ... of a clip only.")] = None,
    decoding: DecodingOption = Decoder.subpixel,
    overlay: OverlayOption = Overlay.mp4,
    panel: PanelOption = True,
    device: DeviceOption = "cpu",
) -> None:
    """Write dense labels (JSON), an overlay and a panel for every clip."""
    # Imported here, so that help is shown at once.
    from posewarper_models.data.posetrack import read_posetrack
    from posewarper_models.inference import DECODINGS
    from posewarper_models.partial import resumable
    from posewarper_models.propagate import METHOD, assignments, by_warping, propagated, with_people

    console = Console()
    clips = opened(labels, data, video, console)
    if every is not None:
        clips = [_sparser(clip, every) for clip in clips]
    plans = [assignments(clip.labels, reach) for clip in clips]
    network, checkpoint = load(model, device)
    check_warps(network, model)
    outputs = Outputs(out, overlay, panel)
    recipe = {
        "command": "propagate",
        "frames": frames_at(frames_of(data, video)),
        "labels": digest(clip.labels for clip in clips),
        "model": checkpoint,
        "reach": reach,
        "every": every,
        "decoding": decoding.value,
    }
    outputs.prepare(recipe, clips)
    propagator = by_warping(network, DECODINGS[decoding.value])
    for clip, plan in zip(clips, plans, strict=True):
        path = outputs.labels(clip)
        if path.exists():
            (result,) = read_posetrack(path)
        else:
            found = resumable(
                outputs.partial(clip),
                clip.labels,
                lambda done, clip=clip: propagated(clip, propagator, reach, done),  # type: ignore[misc]
            )
            total = sum(map(len, plan.values()))
            result = finish(with_people(clip.labels, with_progress(console, clip, total, found), METHOD), path, console)
        source, target, person = next(
            (
                (source, targets[-1], person)
                for source, targets in plan.items()
                for person in clip.labels.frames[source].people
                if targets
            ),
            (0, 0, None),
        )
        draw = pair_panel(network, clip, target, source, person) if person is not None else _nothing_to_draw
        outputs.draw(clip, result, draw, clip.labels.labelled)


def _sparser(clip: Clip, every: int) -> Clip:
    """The clip with labels of frames 0, ``every``, 2 ``every``, ... only."""
    labels = clip.labels.every(every)
    if clip.labels.labelled and not labels.labelled:
        raise AnnotationError(
            f"--every: of clip {clip.id} none of the frames 0, {every}, {2 * every}, ... is labelled; "
            f"the first that is is frame {clip.labels.labelled[0]}"
        )
    return clip.relabelled(labels)


def _nothing_to_draw(path: Path) -> None:
    """A clip without people has no panel."""
