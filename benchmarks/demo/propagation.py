"""PoseWarper at work: labels of every seventh frame, carried through clips that the model has never seen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from posewarper_models import PoseWarper, load_checkpoint
from posewarper_models.aggregate import aggregate, with_joints
from posewarper_models.checkpoints import DEMO
from posewarper_models.data.annotations import Clip, Labels
from posewarper_models.data.crops import crop_around
from posewarper_models.data.synthetic import SceneSettings, synthesise
from posewarper_models.draw import overlay, write_video
from posewarper_models.evaluate import evaluate, joint_errors, mean_over_joints, without_given
from posewarper_models.flow import FLOWS, by_flow
from posewarper_models.inference import SUBPIXEL_DECODING, crops
from posewarper_models.panel import draw_warping, look_into
from posewarper_models.propagate import Propagator, by_warping, propagated, with_people

SCENE = SceneSettings(frames=14, stride=2)  # twelve and a half frames a second, as in training
PER_FRAME = "the network on each frame, no labels"


@dataclass(frozen=True)
class Settings:
    """What is propagated. The seed is none of those that the model was trained on (see weights/README.md)."""

    clips: int = 6
    scene: SceneSettings = SCENE
    every: int = 7
    first: int = 3  # the first labelled frame: every frame is then at most three from a labelled one
    seed: int = 2024
    model: Path = DEMO


@dataclass(frozen=True)
class Score:
    """How well one method did on the frames between the labelled ones."""

    pck: float  # percent of joints within half a head size
    pck_strict: float  # within a fifth
    mean_error: float  # head sizes, over the joints that all methods place
    mean_ap: float  # percent; all joints of all methods score alike
    seconds: float


def propagators(model: PoseWarper) -> dict[str, Propagator]:
    """PoseWarper and the baselines, by what they are called."""
    farneback = FLOWS["farneback"]
    return {
        "PoseWarper": by_warping(model, SUBPIXEL_DECODING),
        "Farnebäck flow, direct": by_flow(farneback),
        "Farnebäck flow, chained": by_flow(farneback, chained=True),
        "labels copied": by_flow(FLOWS["copy"]),
    }


def make_clips(settings: Settings) -> list[Clip]:
    """Synthetic clips with the labels of all frames."""
    return [synthesise(settings.scene, settings.seed, index, "demo") for index in range(settings.clips)]


def scores(truth: list[Labels], found: Mapping[str, list[Labels]], seconds: Mapping[str, float]) -> dict[str, Score]:
    """By method; joints that one of them leaves out count as wrong for it, and do not enter the mean error."""
    alike = {name: [_without_scores(labels) for labels in clips] for name, clips in found.items()}
    distances = {name: joint_errors(truth, clips).distances for name, clips in alike.items()}
    common = np.all([np.isfinite(one) for one in distances.values()], axis=0)
    result = {}
    for name, clips in alike.items():
        measured = evaluate(truth, clips, boxes="ground truth")
        assert measured.pck is not None, "all methods keep the ground truth's track ids"
        result[name] = Score(
            mean_over_joints(measured.pck[0.5]),
            mean_over_joints(measured.pck[0.2]),
            float(distances[name][common].mean()),
            measured.mean_ap,
            seconds[name],
        )
    return result


def _without_scores(labels: Labels) -> Labels:
    """A flow trusts all joints alike; nobody gets an advantage by knowing better."""
    frames = (
        replace(frame, people=tuple(replace(person, scores=None) for person in frame.people)) for frame in labels.frames
    )
    return replace(labels, frames=tuple(frames))


def compare(
    settings: Settings, model: PoseWarper, clips: list[Clip], given: list[Labels]
) -> tuple[dict[str, Score], list[Labels]]:
    """Every method's score, and PoseWarper's labels."""
    found: dict[str, list[Labels]] = {}
    seconds: dict[str, float] = {}
    sparse = [clip.relabelled(labels) for clip, labels in zip(clips, given, strict=True)]
    for name, propagator in propagators(model).items():
        start = time.perf_counter()
        found[name] = [with_people(clip.labels, propagated(clip, propagator), name) for clip in sparse]
        seconds[name] = time.perf_counter() - start
    start = time.perf_counter()
    found[PER_FRAME] = [
        with_joints(
            clip.labels, aggregate(model, clip.frames, clip.labels, weights={}, decoding=SUBPIXEL_DECODING), PER_FRAME
        )
        for clip in clips
    ]
    seconds[PER_FRAME] = time.perf_counter() - start
    truth = without_given([clip.labels for clip in clips], given)
    return scores(truth, found, seconds), found["PoseWarper"]


def score_table(settings: Settings, results: Mapping[str, Score]) -> Table:
    """One row a method."""
    frames = settings.scene.frames
    table = Table(
        "",
        title=f"Poses propagated through {settings.clips} unseen synthetic clips of {frames} frames",
        caption=f"labelled: every {settings.every}th frame, not counted; joints of all methods score alike in mAP; "
        "mean error over the joints that all methods place; the last row has the people's true boxes instead of labels",
    )
    for title in ("PCK@0.5", "PCK@0.2", "mean error, head sizes", "mAP", "seconds"):
        table.add_column(title, justify="right")
    for name, score in results.items():
        table.add_row(
            name,
            f"{score.pck:.1f}",
            f"{score.pck_strict:.1f}",
            f"{score.mean_error:.3f}",
            f"{score.mean_ap:.1f}",
            f"{score.seconds:.1f}",
        )
    return table


def draw(
    model: PoseWarper, clip: Clip, given: Labels, result: Labels, video: Path, panel: Path, zoom: float = 2.0
) -> None:
    """The overlay of one clip, and how its first person's heatmap is warped over three frames."""
    video.unlink(missing_ok=True)
    panel.unlink(missing_ok=True)
    write_video(overlay(clip, result, zoom, given.labelled), video, fps=6)
    source = given.labelled[0]
    target = max(source - 3, 0)
    crop = crop_around(given.frames[source].people[0].box, model.image_size)
    draw_warping(look_into(model, *crops(model, clip.frames, [target, source], crop)), panel)


def run(console: Console, settings: Settings, video: Path, panel: Path) -> dict[str, Score]:
    """Propagates, prints the scores, writes the overlay and the panel."""
    console.rule("At work: PoseWarper, poses through clips with few labelled frames")
    model, _ = load_checkpoint(settings.model)
    with console.status("rendering clips that the model has not seen"):
        clips = make_clips(settings)
    given = [clip.labels.every(settings.every, start=settings.first) for clip in clips]
    with console.status("propagating"), torch.inference_mode():
        results, propagated_labels = compare(settings, model, clips, given)
    console.print(score_table(settings, results))
    draw(model, clips[0], given[0], propagated_labels[0], video, panel)
    return results
