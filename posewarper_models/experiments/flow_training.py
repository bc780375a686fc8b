"""Training the learned flow on the study's training clips, labelled and unlabelled frames alike; resumable.

The first half of the steps takes known flows, the second one pairs of frames (see
:mod:`posewarper_models.experiments.flow_losses`); the learning rate falls as half a cosine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from posewarper_models.data.annotations import Clip
from posewarper_models.experiments.flow_losses import known_flow_loss, known_pairs, unsupervised_loss
from posewarper_models.experiments.flow_network import FlowNetwork
from posewarper_models.experiments.settings import FlowNetworkSettings
from posewarper_models.train.modules import NonFiniteLossError
from posewarper_models.train.run import RunError
from posewarper_models.video import Image

CHECKPOINT_EVERY = 200  # steps
KNOWN = 0.5  # share of the steps
GRADIENT_NORM = 1.0  # larger gradients are cut: single pairs with nothing in common have some


@dataclass(frozen=True)
class FlowRun:
    """Where a training stands: what :func:`train_flow` keeps."""

    made_with: dict[str, Any]  # what all steps depend on, the clips excepted
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
        RunError: the checkpoint was trained with other settings.
    """
    torch.manual_seed(seed)
    network = FlowNetwork(settings.channels, settings.reach, settings.width).to(device)
    schedule = settings.schedule
    steps = schedule.steps
    assert steps is not None  # the settings ask for it
    optimizer = torch.optim.Adam(network.parameters(), schedule.learning_rate)
    made_with = settings.model_dump(mode="json") | {"furthest": furthest, "seed": seed}
    done = _restore(path, made_with, network, optimizer, device)
    for step in track(range(done, steps), "learned flow", disable=not progress, transient=True):
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
        pairs = flow_batch(clips, furthest, settings.size, schedule.batch_size, (seed, step))
        if step < KNOWN * steps:
            rng = torch.Generator().manual_seed((seed << 32) + step)
            loss = known_flow_loss(network, *(each.to(device) for each in known_pairs(pairs[:, 0], rng)))
        else:
            loss = unsupervised_loss(network, *pairs.to(device).unbind(dim=1))
        if not loss.isfinite():
            raise NonFiniteLossError(f"loss: of the learned flow is {loss.item()} at step {step}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
        optimizer.step()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            _keep(path, FlowRun(made_with, step + 1, network.state_dict(), optimizer.state_dict()))
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


def random_crop(images: Sequence[Image], size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """The same part of frames [H, W, 3], mirrored or not: [len(images), 3, h, w], 0 to 1; small frames are enlarged."""
    height, width = images[0].shape[:2]
    zoom = max(size[0] / height, size[1] / width, 1.0)
    if zoom > 1:
        images = [np.asarray(cv2.resize(image, None, fx=zoom, fy=zoom), np.uint8) for image in images]
        height, width = images[0].shape[:2]
    top, left = rng.integers(height - size[0] + 1), rng.integers(width - size[1] + 1)
    step = -1 if rng.random() < 0.5 else 1
    parts = np.stack([image[top : top + size[0], left : left + size[1]][:, ::step] for image in images])
    return torch.from_numpy(np.ascontiguousarray(parts)).permute(0, 3, 1, 2).float() / 255


def _restore(
    path: Path,
    made_with: dict[str, Any],
    network: FlowNetwork,
    optimizer: torch.optim.Optimizer,
    device: torch.device | str,
) -> int:
    """Steps that were done."""
    if not path.is_file():
        return 0
    kept = torch.load(path, map_location=device, weights_only=True)
    there = kept.get("made_with", {})
    for name, wanted in made_with.items():
        if there.get(name) != wanted:
            raise RunError(
                f"{path}: was trained with {name} {there.get(name)}, but should be with {wanted}; move it away, or "
                "name another --work folder"
            )
    run = FlowRun(**kept)
    network.load_state_dict(run.network)
    optimizer.load_state_dict(run.optimizer)
    return run.step


def _keep(path: Path, run: FlowRun) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    torch.save(vars(run), unfinished)
    os.replace(unfinished, path)
