"""The training data that a configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from posewarper_models.data.annotations import Clip, Labels
from posewarper_models.data.crops import Augmentation
from posewarper_models.data.pairs import FramePairs, SingleFrames
from posewarper_models.train.config import Config, DataConfig


def sparse(clips: Sequence[Clip], data: DataConfig) -> list[Clip]:
    """The clips that count, with the labels that count."""
    return [replace(clip, labels=_sparse_labels(clip, data)) for clip in clips[: data.videos]]


def training_samples(clips: Sequence[Clip], config: Config) -> SingleFrames | FramePairs:
    """Samples of the configuration's stage with its augmentation.

    Args:
        clips: with all labels that there are; the configuration says which of them count.
        config: stage and data are read.

    Raises:
        AnnotationError: no labelled person is left.
    """
    data = config.data
    augmentation = Augmentation(rotation=data.rotation, scale=data.scaling, flip=data.flip, half_body=data.half_body)
    return _samples(sparse(clips, data), config, augmentation)


def validation_samples(clips: Sequence[Clip], config: Config) -> SingleFrames | FramePairs:
    """The same without augmentation."""
    return _samples(sparse(clips, config.data), config, None)


def _samples(clips: Sequence[Clip], config: Config, augmentation: Augmentation | None) -> SingleFrames | FramePairs:
    data = config.data
    if config.stage == "heatmaps":
        return SingleFrames(clips, data.image_size, data.sigma, augmentation)
    return FramePairs(clips, data.image_size, data.sigma, augmentation, data.max_delta)


def _sparse_labels(clip: Clip, data: DataConfig) -> Labels:
    if data.every is not None:
        return clip.labels.every(data.every)
    return clip.labels if data.per_video is None else clip.labels.spread(data.per_video)
