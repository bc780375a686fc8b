"""What is asked of a learned flow before anything is compared with it: that it has learned, and is the one it was."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from posewarper_models.experiments.comparison import Task, by_distance, held_to, propagated_by
from posewarper_models.experiments.flow_losses import census_error
from posewarper_models.experiments.tallies import THRESHOLDS
from posewarper_models.flow import Flow, by_flow, still
from posewarper_models.train.run import RunError

PAIRS = 5  # of neighbouring frames of a clip, for the census error


class UntrainedFlowError(ValueError):
    """A learned flow that is no better than none. The message says what was measured, and what it should be."""


@dataclass(frozen=True)
class Quality:
    """How well a flow does, beside no flow at all: census errors of the same pixels, and mean PCK."""

    census: float
    census_still: float
    pck: float
    pck_copied: float

    @property
    def learned(self) -> bool:
        """Whether it does better by both."""
        return self.census < self.census_still and self.pck > self.pck_copied


def quality(tasks: Sequence[Task], flow: Flow) -> Quality:
    """Of a flow on tuning clips; joints go in one step."""
    errors = []
    for task in tasks:
        for first, second in pairwise(task.clip.frames[index] for index in range(min(PAIRS + 1, len(task.clip)))):
            ours, theirs, found = _batched(first) / 255, _batched(second) / 255, _batched(flow(first, second))
            none = torch.zeros_like(found)
            errors.append([float(census_error(ours, theirs, found, each)) for each in (found, none)])
    census, census_still = np.mean(errors, axis=0)
    return Quality(census, census_still, score(tasks, flow, False), score(tasks, still, False))


def require_learned(tasks: Sequence[Task], flow: Flow) -> None:
    """Refuses a learned flow that does not beat no flow on tuning clips.

    Raises:
        UntrainedFlowError: by census error or by PCK it does not.
    """
    found = quality(tasks, flow)
    if not found.learned:
        raise UntrainedFlowError(
            f"learned flow: on {len(tasks)} tuning clips its census error is {found.census:.4f}, which should be below "
            f"the {found.census_still:.4f} of no motion, and its mean PCK {found.pck:.4f}, which should be above the "
            f"{found.pck_copied:.4f} of copied labels; it needs a longer or another flow_network.schedule"
        )


def score(tasks: Sequence[Task], flow: Flow, chained: bool) -> float:
    """The mean of PCK at both thresholds."""
    predictions = [held_to(task.truth, propagated_by(by_flow(flow, chained=chained), "flow", task)) for task in tasks]
    found = by_distance(tasks, predictions)
    return float(np.mean([found.share(threshold).value for threshold in THRESHOLDS]))


def require_own_predictions(network: nn.Module, folder: Path) -> None:
    """Refuses what another learned flow has predicted in a folder that all seeds share.

    Raises:
        RunError: names a file that is there, though these weights have not made it.
    """
    note = folder / "flow.sha256"
    digest = hashlib.sha256()
    for name, values in network.state_dict().items():
        digest.update(name.encode())
        digest.update(values.cpu().numpy().tobytes())
    if note.is_file() and note.read_text(encoding="utf-8") == digest.hexdigest():
        return
    foreign = sorted(folder.glob("*/predictions/learned*.json"))
    if foreign:
        raise RunError(f"{foreign[0]}: was predicted by a learned flow with other weights; delete it, or move it away")
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(digest.hexdigest(), encoding="utf-8")


def _batched(values: np.ndarray) -> Tensor:
    """[1, C, H, W] from [H, W, C]."""
    return torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1)[None].float()
