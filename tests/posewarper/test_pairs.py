"""The data sets of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from posewarper_models.data.annotations import AnnotationError, Clip
from posewarper_models.data.crops import Augmentation, crop_around
from posewarper_models.data.pairs import FramePairs, SingleFrames, target_weight
from posewarper_models.data.synthetic import SceneSettings, synthesise
from posewarper_models.heatmaps import decode
from posewarper_models.train.loader import ResumableLoader

SIZE, SIGMA = (64, 64), 1.5


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    settings = SceneSettings(width=80, height=64, frames=9, occluders=0.0)
    return [synthesise(settings, seed=0, index=index) for index in range(3)]


def sparse(clips: list[Clip]) -> list[Clip]:
    return [clip.relabelled(clip.labels.every(4)) for clip in clips]


def test_there_is_a_sample_for_each_person_of_each_labelled_frame(clips: list[Clip]) -> None:
    expected = [
        (clip.id, frame, person.track_id)
        for clip in clips
        for frame in (0, 4, 8)
        for person in clip.labels.frames[frame].people
    ]
    samples = SingleFrames(sparse(clips), SIZE, SIGMA)
    assert [(sample["clip"], sample["frame"], sample["person"]) for sample in samples] == expected


@pytest.mark.parametrize("dataset", [SingleFrames, FramePairs])
def test_samples_have_the_documented_shapes(dataset: type, clips: list[Clip]) -> None:
    sample = dataset(sparse(clips), SIZE, SIGMA, Augmentation())[0]
    images = ("image",) if dataset is SingleFrames else ("reference", "support")
    for name in images:
        assert sample[name].shape == (3, 64, 64)
        assert sample[name].dtype == torch.float32
    assert sample["target"].shape == (17, 16, 16)
    assert sample["weight"].shape == (17, 1, 1)
    assert set(sample) == {*images, "target", "weight", "clip", "frame", "person"} | (
        {"delta"} if dataset is FramePairs else set()
    )


def test_samples_collate(clips: list[Clip]) -> None:
    batch = next(iter(torch.utils.data.DataLoader(FramePairs(sparse(clips), SIZE, SIGMA), batch_size=3)))
    assert batch["reference"].shape == (3, 3, 64, 64)
    assert batch["delta"].shape == (3,)


def test_the_targets_peak_at_the_joints(clips: list[Clip]) -> None:
    sample = SingleFrames(clips, SIZE, SIGMA)[0]
    person = clips[0].labels.frames[0].people[0]
    visible = sample["weight"].flatten() > 0
    found = decode(sample["target"], refinement="parabola")[visible, :2].numpy()
    expected = crop_around(person.box, SIZE).heatmap.keypoints_from_frame(person.keypoints)[visible.numpy(), :2]
    assert visible.sum() >= 4
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_pair_shows_two_frames_under_the_same_crop(clips: list[Clip]) -> None:
    pairs = FramePairs(sparse(clips), SIZE, SIGMA)
    for sample in pairs:
        clip = next(clip for clip in clips if clip.id == sample["clip"])
        crop = crop_around(clip.labels.frames[sample["frame"]].person(sample["person"]).box, SIZE)
        for name, frame in (("reference", 0), ("support", sample["delta"])):
            torch.testing.assert_close(sample[name], crop.image(clip.frames[sample["frame"] + frame]))


def test_delta_is_even_over_the_frames_that_exist(clips: list[Clip]) -> None:
    pairs = FramePairs(sparse(clips), SIZE, SIGMA)
    deltas = {0: [], 4: [], 8: []}
    torch.manual_seed(0)
    for _ in range(40):
        for sample in pairs:
            if sample["clip"] == clips[0].id:
                deltas[sample["frame"]].append(sample["delta"])
    assert set(deltas[0]) == {0, 1, 2, 3}
    assert set(deltas[4]) == {-3, -2, -1, 0, 1, 2, 3}
    assert set(deltas[8]) == {-3, -2, -1, 0}
    assert np.bincount(np.array(deltas[4]) + 3).min() > len(deltas[4]) / 7 / 2


def test_pytorchs_generator_decides_everything(clips: list[Clip]) -> None:
    pairs = FramePairs(clips, SIZE, SIGMA, Augmentation())

    def reference(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return pairs[3]["reference"]

    assert torch.equal(reference(1), reference(1))
    assert not torch.equal(reference(1), reference(2))


def test_every_epoch_augments_anew(clips: list[Clip]) -> None:
    samples = SingleFrames(clips, SIZE, SIGMA, Augmentation())
    loader = ResumableLoader(samples, batch_size=len(samples), seed=0)
    epochs = [
        {str([batch[name][i] for name in ("clip", "frame", "person")]): batch["image"][i] for i in range(len(samples))}
        for batch in (next(iter(loader)), next(iter(loader)))
    ]
    assert epochs[0].keys() == epochs[1].keys()
    for name, image in epochs[0].items():
        assert not torch.equal(image, epochs[1][name]), name


def test_hidden_joints_and_joints_outside_have_no_weight() -> None:
    keypoints = np.array([(5.0, 5, 1), (5, 5, 0), (-4, 5, 1), (-5, 5, 1), (19, 5, 1), (20, 5, 1), (5, 21, 1)])
    weight = target_weight(keypoints, (16, 16), sigma=1.5)
    assert weight.flatten().tolist() == [1, 0, 1, 0, 1, 0, 0]


def test_clips_without_labels_are_refused(clips: list[Clip]) -> None:
    empty = [clip.relabelled(clip.labels.keep_labelled([])) for clip in clips]
    with pytest.raises(AnnotationError, match="no labelled person with a visible joint in 3 clips"):
        SingleFrames(empty, SIZE)
