"""All experiments by name, and how one is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posewarper_models.experiments import (
    aggregation,
    backends,
    compactness,
    dilations,
    labels,
    motion,
    offsets,
    propagation,
    results,
)
from posewarper_models.experiments.results import Result
from posewarper_models.experiments.settings import Study
from posewarper_models.experiments.tables import Page
from posewarper_models.experiments.workspace import Workspace


@dataclass(frozen=True)
class Experiment:
    """What is asked, how it is measured, and how results are written."""

    title: str
    question: str
    measure: Callable[[Workspace], dict[str, Any]]
    section: Callable[[Sequence[Result], Page], str]


OF_ONE = {"labels": "labels", "equality_steps": "backends"}  # field of a study -> the one experiment that reads it

EXPERIMENTS = {
    "propagation": Experiment(
        "Propagation (table 1)",
        "Every 7th frame is labelled; every other frame takes the label nearest in time, up to three frames away. All "
        "methods have the same joints to find: those that the crop around the labelled person can show in both frames. "
        "Flow is tuned on videos of its own; the learned one is trained once for all seeds. PoseWarper is adapted to "
        "every regime with that regime's labels, where the per-frame network and the learned flow are one for all. "
        "Training for cycle consistency goes on from PoseWarper: it has had more steps, and there is no control of "
        "equal length. The per-frame network is not trained on hidden joints, so that differences are told for visible "
        "joints as well. Average precision has, for all methods, the height of the per-frame network's heatmap at the "
        "joint as its score.",
        propagation.measure,
        propagation.section,
    ),
    "motion": Experiment(
        "How much of the motion is told",
        "Where a method takes a joint to, against where the joint went: by the size of the motion, and, for "
        "PoseWarper, where nothing moves. At the main regime, with the predictions of the experiment on propagation; "
        "joints that can be seen in both frames.",
        motion.measure,
        motion.section,
    ),
    "labels": Experiment(
        "Fewer labels (figure 4)",
        "A pose network trained on few labels; on these and on what PoseWarper makes of them, which is trained on the "
        "same few; on seven times the labels; and the first one with aggregation at inference. All start from the "
        "same weights and have the same number of steps; the labelled videos are drawn by the seed.",
        labels.measure,
        labels.section,
    ),
    "aggregation": Experiment(
        "Aggregation (table 2, section 4.3)",
        "Single frames against sums of the neighbours' heatmaps, warped to the frame, in the true boxes. δ = 0 alone "
        "and the sum without warping tell what warping from other frames adds.",
        aggregation.measure,
        aggregation.section,
    ),
    "offsets": Experiment(
        "What the offsets mean (section 4.5)",
        "A linear regression from a joint's own offsets, read where the joint is, to its displacement in the other "
        "frame. It is fitted to labels, and shrinks what it predicts; the same regression from Farneback's flow where "
        "the joint is tells what that alone gives.",
        offsets.measure,
        offsets.section,
    ),
    "dilations": Experiment(
        "Dilations",
        "One dilation against five, and the paper's against those scaled to the size of the heatmap; propagation at "
        "the main regime of motion.",
        dilations.measure,
        dilations.section,
    ),
    "backends": Experiment(
        "Our op against torchvision's calls",
        "Stage 2 with the same seed and batches, the warp computed in one pass or by one call a dilation and their "
        "sum.",
        backends.measure,
        backends.section,
    ),
    "compactness": Experiment(
        "Compactness (section 4.1)",
        "Parameters of the warping part, and of networks of optical flow.",
        compactness.measure,
        compactness.section,
    ),
}


def settings_of(study: Study, name: str) -> dict[str, Any]:
    """What of a study an experiment depends on, as plain data."""
    foreign = {field for field, experiment in OF_ONE.items() if experiment != name}
    return study.model_dump(mode="json", exclude={"about", *foreign})


def run(name: str, configuration: str, space: Workspace, folder: Path) -> Path:
    """Runs an experiment of one seed and keeps its result.

    Args:
        name: of :data:`EXPERIMENTS`.
        configuration: its study's name.
        space: with the seed.
        folder: of results.

    Raises:
        ResultError: there is a result already.
    """
    path = results.path_of(folder, name, configuration, space.seed)
    if path.exists():
        raise results.ResultError(f"{path}: exists; remove it first to measure again")
    before = time.monotonic()
    measured = EXPERIMENTS[name].measure(space)
    result = Result(
        name,
        configuration,
        space.seed,
        space.videos.name,
        settings_of(space.study, name),
        results.provenance(time.monotonic() - before),
        measured,
    )
    return results.save(result, folder)
