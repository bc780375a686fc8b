"""Data sets of training: single frames for stage 1, pairs of a labelled frame and one near it for stage 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from posewarper_models.data.annotations import AnnotationError, Array, Clip, Person
from posewarper_models.data.crops import Augmentation, Crop, crop_around
from posewarper_models.heatmaps import REACH, encode

Sample = dict[str, Any]


@dataclass(frozen=True)
class _Labelled:
    """One labelled person: where it is in the data set."""

    clip: int
    frame: int
    person: Person


class _Samples(Dataset[Sample]):
    """The labelled people of clips, and what both stages do with one.

    All that is random about a sample comes from PyTorch's generator: whoever seeds that decides everything.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        size: tuple[int, int] = (384, 288),
        sigma: float = 3.0,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.clips, self.size, self.sigma, self.augmentation = clips, size, sigma, augmentation
        self.samples = [
            _Labelled(index, frame, person)
            for index, clip in enumerate(clips)
            for frame in clip.labels.labelled
            for person in clip.labels.frames[frame].people
            if person.visible.any()
        ]
        if not self.samples:
            raise AnnotationError(f"clips: no labelled person with a visible joint in {len(clips)} clips")

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}: samples are counted from 0")
        drawn = torch.randint(torch.iinfo(torch.int64).max, ())
        return self._sample(self.samples[index], np.random.default_rng(int(drawn)))

    def _sample(self, labelled: _Labelled, rng: np.random.Generator) -> Sample:
        raise NotImplementedError

    def _crop(self, person: Person, rng: np.random.Generator) -> Crop:
        if self.augmentation is None:
            return crop_around(person.box, self.size)
        return self.augmentation.crop(person, self.size, rng)

    def _target(self, labelled: _Labelled, crop: Crop) -> Sample:
        """Target heatmaps, weights, and what the sample is."""
        heatmap = crop.heatmap
        keypoints = heatmap.keypoints_from_frame(labelled.person.keypoints)
        weight = target_weight(keypoints, heatmap.size, self.sigma)
        target = encode(torch.from_numpy(keypoints[:, :2]).float(), weight.flatten(), heatmap.size, self.sigma)
        return {
            "target": target,
            "weight": weight,
            "clip": self.clips[labelled.clip].id,
            "frame": labelled.frame,
            "person": labelled.person.track_id,
        }


def target_weight(keypoints: Array, size: tuple[int, int], sigma: float) -> Tensor:
    """[J, 1, 1], 1 for joints [J, 3] that are visible and whose Gaussian reaches into a heatmap of a size."""
    height, width = size
    margin = REACH * sigma
    x, y, visible = keypoints.T
    inside = (x >= -margin) & (x <= width - 1 + margin) & (y >= -margin) & (y <= height - 1 + margin)
    return torch.from_numpy(inside & (visible > 0)).float().view(-1, 1, 1)


class SingleFrames(_Samples):
    """Stage 1: one sample for each person of each labelled frame.

    Args:
        clips: with labels; :meth:`Labels.every` and :meth:`Labels.spread` make them sparse.
        size: height and width of the crops, multiples of 32; the paper's by default.
        sigma: of the target Gaussians in heatmap pixels; the paper's 3 belongs to 96 x 72.
        augmentation: random crops; None for the plain crop around the box.

    A sample is a dictionary: ``image`` float32 [3, h, w], ``target`` [J, h/4, w/4], ``weight`` [J, 1, 1] (1 for visible
    joints), ``clip``, ``frame``, ``person``.

    Raises:
        AnnotationError: there is no labelled person.
    """

    def _sample(self, labelled: _Labelled, rng: np.random.Generator) -> Sample:
        crop = self._crop(labelled.person, rng)
        image = crop.image(self.clips[labelled.clip].frames[labelled.frame])
        return {"image": image, **self._target(labelled, crop)}


class FramePairs(_Samples):
    """Stage 2: a labelled frame A and a frame B of the same clip, δ frames later, both under the same crop.

    δ is drawn evenly from those in [-max_delta, max_delta] whose frame exists (paper, section 3).
    Arguments are those of :class:`SingleFrames`, and ``max_delta``.

    A sample is a dictionary: ``reference`` (frame A) and ``support`` (frame B) float32 [3, h, w], ``target``
    [J, h/4, w/4] and ``weight`` [J, 1, 1] of frame A, ``delta``, ``clip``, ``frame`` (of A), ``person``.

    Raises:
        AnnotationError: there is no labelled person.
        ValueError: ``max_delta`` is negative.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        size: tuple[int, int] = (384, 288),
        sigma: float = 3.0,
        augmentation: Augmentation | None = None,
        max_delta: int = 3,
    ) -> None:
        super().__init__(clips, size, sigma, augmentation)
        if max_delta < 0:
            raise ValueError(f"max_delta: is {max_delta}, should be at least 0")
        self.max_delta = max_delta

    def _sample(self, labelled: _Labelled, rng: np.random.Generator) -> Sample:
        clip = self.clips[labelled.clip]
        first = max(-self.max_delta, -labelled.frame)
        last = min(self.max_delta, len(clip) - 1 - labelled.frame)
        delta = int(rng.integers(first, last + 1))
        crop = self._crop(labelled.person, rng)
        return {
            "reference": crop.image(clip.frames[labelled.frame]),
            "support": crop.image(clip.frames[labelled.frame + delta]),
            "delta": delta,
            **self._target(labelled, crop),
        }
