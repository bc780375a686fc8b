"""Small models that all tests of PoseWarper share."""

from __future__ import annotations

import pytest
import torch
from tiny import TINY, TinyBackbone
from torch import nn

from posewarper_models import PoseWarper, build_posewarper


@pytest.fixture
def tiny() -> PoseWarper:
    """A PoseWarper with random offsets and weights, in evaluation mode."""
    torch.manual_seed(0)
    model = build_posewarper(TinyBackbone(), **TINY)
    for conv in model.warping.offset_convs.parameters():
        nn.init.normal_(conv, std=5.0)  # offsets of some pixels
    nn.init.normal_(model.warping.warp.weight, std=0.2)
    return model.eval()
