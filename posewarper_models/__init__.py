"""PoseWarper (Bertasius et al., NeurIPS 2019): poses through videos of which only some frames are labelled."""

from posewarper_models.checkpoints import CheckpointError, CheckpointReport, load_checkpoint, save_checkpoint
from posewarper_models.heatmaps import decode, encode
from posewarper_models.network import PoseWarper, build_posewarper

__all__ = [
    "CheckpointError",
    "CheckpointReport",
    "PoseWarper",
    "build_posewarper",
    "decode",
    "encode",
    "load_checkpoint",
    "save_checkpoint",
]
