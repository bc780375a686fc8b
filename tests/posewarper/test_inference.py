"""Propagation and aggregation: the right frames, the right direction, the right place in the frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY, TinyBackbone

from posewarper_models import PoseWarper, build_posewarper
from posewarper_models.aggregate import WEIGHTS, aggregate, with_joints
from posewarper_models.data.annotations import AnnotationError, Clip, FrameLabels, Labels
from posewarper_models.data.crops import crop_around
from posewarper_models.data.synthetic import SceneSettings, synthesise
from posewarper_models.evaluate import evaluate
from posewarper_models.inference import SUBPIXEL_DECODING
from posewarper_models.propagate import assignments, propagate

SIZE = (128, 96)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return synthesise(SceneSettings(frames=6, people_min=2, people_max=2, occluders=0), seed=4)


@pytest.fixture
def still() -> PoseWarper:
    """It warps nothing: its offsets are zero."""
    torch.manual_seed(0)
    return build_posewarper(TinyBackbone(), **TINY, image_size=SIZE, sigma=1.5).eval()


def sparse(clip: Clip, *labelled: int) -> Clip:
    return replace(clip, labels=clip.labels.keep_labelled(labelled))


def test_hidden_joints_stay_hidden(clip: Clip, still: PoseWarper) -> None:
    keypoints = clip.labels.frames[2].people[0].keypoints
    assert 0 < (keypoints[:, 2] > 0).sum() < (keypoints != 0).any(axis=1).sum()
    found = propagate(still, sparse(clip, 2), reach=1).frames[3].people[0]
    assert (found.visible == (keypoints[:, 2] > 0) & found.annotated).all()


def test_without_offsets_labels_are_copied(clip: Clip, still: PoseWarper) -> None:
    found = propagate(still, sparse(clip, 2), reach=2, decoding=replace(SUBPIXEL_DECODING, blur=0.0))
    truth = clip.labels.frames[2].people
    assert found.labelled == (0, 1, 2, 3, 4), "frame 5 is out of reach"
    assert found.frames[2].people is truth
    assert "propagated by PoseWarper" in found.source
    for index in (0, 1, 3, 4):
        for person, original in zip(found.frames[index].people, truth, strict=True):
            assert person.track_id == original.track_id
            carried = person.annotated
            assert carried.sum() > 10
            heatmap = crop_around(original.box, SIZE).heatmap
            places = heatmap.keypoints_from_frame(original.keypoints)[:, :2]
            inner = carried & ((places >= 1) & (places <= np.array(heatmap.size[::-1]) - 2)).all(axis=1)
            np.testing.assert_allclose(person.keypoints[inner, :2], original.keypoints[inner, :2], atol=0.01)


def test_propagation_is_the_networks(clip: Clip, still: PoseWarper, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    warped = PoseWarper.warped

    def spy(self, target, source, heatmap=None):
        asked.append((target, source, heatmap))
        return warped(self, target, source, heatmap)

    monkeypatch.setattr(PoseWarper, "warped", spy)
    propagate(still, sparse(clip, 2), reach=1)
    person = clip.labels.frames[2].people[0]
    crop = crop_around(person.box, SIZE)
    f_1, f_2, f_3 = still.heatmaps(torch.stack([crop.image(clip.frames[index]) for index in (1, 2, 3)]))
    target, source, heatmap = asked[0]
    torch.testing.assert_close(target, torch.stack([f_1, f_3]))
    torch.testing.assert_close(source, torch.stack([f_2, f_2]))
    assert heatmap is not None, "the labels' heatmap is warped, not the network's"


def test_joints_without_annotation_stay_without(clip: Clip, still: PoseWarper) -> None:
    person = clip.labels.frames[2].people[0]
    keypoints = person.keypoints.copy()
    keypoints[[4, 9]] = 0
    frames = list(clip.labels.frames)
    frames[2] = replace(frames[2], people=(replace(person, keypoints=keypoints),))
    labels = replace(clip.labels, frames=tuple(frames)).keep_labelled([2])
    found = propagate(still, replace(clip, labels=labels), reach=1).frames[3].people[0]
    assert not found.annotated[[4, 9]].any()
    assert found.scores is not None
    assert not found.scores[[4, 9]].any()


@pytest.mark.parametrize(
    ("labelled", "length", "reach", "expected"),
    [
        ([3], 7, 3, {3: [0, 1, 2, 4, 5, 6]}),
        ([0, 4], 5, 3, {0: [1, 2], 4: [3]}),
        ([0], 9, 2, {0: [1, 2]}),
        ([0, 1], 2, 3, {0: [], 1: []}),
    ],
    ids=["every 7th", "tie goes to the earlier", "out of reach", "all labelled"],
)
def test_frames_take_the_nearest_labels(labelled: list, length: int, reach: int, expected: dict) -> None:
    frames = (FrameLabels(i, f"images/dance/{i:06d}.jpg", labelled=i in labelled) for i in range(length))
    assert assignments(Labels("dance", tuple(frames), "PoseTrack18", "a test"), reach) == expected


def test_labels_are_needed(clip: Clip, still: PoseWarper) -> None:
    with pytest.raises(AnnotationError, match=f"clip {clip.id}: no frame is labelled"):
        propagate(still, sparse(clip))
    with pytest.raises(AnnotationError, match="reach: is 0"):
        propagate(still, sparse(clip, 1), reach=0)


@pytest.mark.parametrize(("name", "index"), [("paper", 3), ("authors", 3), ("paper", 0), ("authors", 5), ("single", 2)])
def test_aggregation_is_the_weighted_sum(
    clip: Clip, tiny: PoseWarper, name: str, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.architecture["image_size"] = SIZE
    seen = []
    monkeypatch.setattr(type(SUBPIXEL_DECODING), "joints", lambda self, heatmaps, crop: seen.append(heatmaps) or JOINTS)
    weights = WEIGHTS[name]
    labels = sparse(clip, index).labels
    list(aggregate(tiny, clip.frames, labels, weights=weights))
    crop = crop_around(labels.frames[index].people[0].box, SIZE)
    pictures = [crop.image(frame)[None] for frame in clip.frames]
    if weights:
        supports = torch.stack([pictures[min(max(index + delta, 0), 5)] for delta in weights], dim=1)
        total = sum(weights.values())
        expected = tiny.aggregate(pictures[index], supports, list(weights.values())) / total
    else:
        expected = tiny.heatmaps(pictures[index])
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-4)


JOINTS = np.zeros((1, 17, 3))


def test_aggregated_labels_have_only_what_was_found(clip: Clip, still: PoseWarper) -> None:
    boxes = sparse(clip, 1, 4).labels
    found = with_joints(boxes, aggregate(still, clip.frames, boxes, weights=WEIGHTS["authors"]), "PoseWarper")
    assert found.labelled == (1, 4)
    assert [person.track_id for person in found.frames[1].people] == [0, 1]
    assert found.source.startswith("PoseWarper in boxes of")


def test_a_frame_that_was_looked_at_and_is_empty_counts_as_labelled(clip: Clip, still: PoseWarper) -> None:
    truth = sparse(clip, 1, 2, 4).labels
    frames = list(truth.frames)
    frames[2] = replace(frames[2], people=())  # where the detector found nobody
    boxes = replace(truth, frames=tuple(frames))
    found = with_joints(boxes, aggregate(still, clip.frames, boxes, weights=WEIGHTS["single"]), "PoseWarper")
    assert found.labelled == (1, 2, 4)
    assert np.nanmax(evaluate([truth], [found]).recall) < 100, "joints there are missed"
