"""Training the learned flow on the study's training clips, labelled and unlabelled frames alike; resumable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from posewarper_models.data.annotations import Clip
from posewarper_models.experiments.flow_network import FlowNetwork, random_crop, unsupervised_loss
from posewarper_models.experiments.settings import FlowNetworkSettings
from posewarper_models.train.modules import NonFiniteLossError

CHECKPOINT_EVERY = 200  # steps
GRADIENT_NORM = 1.0  # larger gradients are cut: single pairs with nothing in common have some


@dataclass(frozen=True)
class FlowRun:
    """Where a training stands: what :func:`train_flow` keeps."""

    step: int
    network: dict[str, Tensor]
    optimizer: dict[str, Any]


def train_flow(
    settings: FlowNetworkSettings,
    clips: Sequence[Clip],
    furthest: int,
    path: Path,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> FlowNetwork:
    """The trained network; goes on from ``path`` where that is there.

    Args:
        settings: network and schedule.
        clips: whose frames are used; their labels are not.
        furthest: how many frames two frames are apart at most.
        path: of the checkpoint.
        seed: of the weights and of every batch.
        device: to train on.
        progress: whether to show a bar.

    Raises:
        NonFiniteLossError: names the step; the last checkpoint is still there.
    """
    torch.manual_seed(seed)
    network = FlowNetwork(settings.channels, settings.reach, settings.width).to(device)
    schedule = settings.schedule
    steps = schedule.steps
    assert steps is not None  # the settings ask for it
    optimizer = torch.optim.Adam(network.parameters(), schedule.learning_rate)
    done = _restore(path, network, optimizer, device)
    for step in track(range(done, steps), "learned flow", disable=not progress, transient=True):
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * 0.1 ** ((step >= 0.6 * steps) + (step >= 0.85 * steps))
        pairs = flow_batch(clips, furthest, settings.size, schedule.batch_size, (seed, step)).to(device)
        loss = unsupervised_loss(network, pairs[:, 0], pairs[:, 1])
        if not loss.isfinite():
            raise NonFiniteLossError(f"loss: of the learned flow is {loss.item()} at step {step}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
        optimizer.step()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            _keep(path, FlowRun(step + 1, network.state_dict(), optimizer.state_dict()))
    return network.eval()


def flow_batch(
    clips: Sequence[Clip], furthest: int, size: tuple[int, int], count: int, seed: tuple[int, ...]
) -> Tensor:
    """Pairs of frames of a clip, up to ``furthest`` frames apart either way: [count, 2, 3, h, w], 0 to 1."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        clip = clips[int(rng.integers(len(clips)))]
        distance = int(rng.integers(1, min(furthest, len(clip) - 1) + 1))
        start = int(rng.integers(len(clip) - distance))
        ends = (start, start + distance) if rng.random() < 0.5 else (start + distance, start)
        pairs.append(random_crop([clip.frames[index] for index in ends], size, rng))
    return torch.stack(pairs)


def _restore(path: Path, network: FlowNetwork, optimizer: torch.optim.Optimizer, device: torch.device | str) -> int:
    """Steps that were done."""
    if not path.is_file():
        return 0
    run = FlowRun(**torch.load(path, map_location=device, weights_only=True))
    network.load_state_dict(run.network)
    optimizer.load_state_dict(run.optimizer)
    return run.step


def _keep(path: Path, run: FlowRun) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    torch.save(vars(run), unfinished)
    os.replace(unfinished, path)
