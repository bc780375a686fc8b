"""A small training run, in this process or as one of its own.

``resumable_run.py FOLDER`` is slow enough to be killed; ``resumable_run.py FOLDER --two`` trains in two processes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from pairs import BlobPairs
from tiny import TINY, TinyBackbone

from posewarper_models import PoseWarper, build_posewarper
from posewarper_models.train.config import Config
from posewarper_models.train.run import Machine, train

CONFIG = Config.model_validate(
    {"stage": "warping", "schedule": {"learning_rate": 1e-2, "epochs": 3, "batch_size": 2, "milestones": [1]}}
)


class SlowPairs(BlobPairs):
    def __getitem__(self, index: int) -> dict:
        time.sleep(0.05)
        return super().__getitem__(index)


def run(folder: Path, kind: type[BlobPairs] = BlobPairs, resume: bool = False, devices: int = 1) -> PoseWarper:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return train(
        CONFIG,
        kind(length=16),
        folder,
        start=build_posewarper(TinyBackbone(), **TINY),
        resume=resume,
        machine=Machine("cpu", devices, checkpoint_every=3),
        progress=False,
    )


if __name__ == "__main__":
    if sys.argv[2:] == ["--two"]:
        run(Path(sys.argv[1]), devices=2)
    else:
        run(Path(sys.argv[1]), SlowPairs)
