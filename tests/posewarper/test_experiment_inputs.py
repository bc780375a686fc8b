"""What experiments stand on: videos of a data set, regimes of motion, a learned flow with weights from elsewhere."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from posewarper_models.checkpoints import DEMO
from posewarper_models.data.annotations import AnnotationError
from posewarper_models.data.synthetic import SceneSettings
from posewarper_models.data.synthetic.writing import write_clips
from posewarper_models.experiments import labels
from posewarper_models.experiments.flow_check import UntrainedFlowError
from posewarper_models.experiments.flow_network import LearnedFlow
from posewarper_models.experiments.flows import learned, raft_weights, tuned
from posewarper_models.experiments.settings import SplitSettings, load_study
from posewarper_models.experiments.videos import PoseTrackVideos, SyntheticVideos, strided
from posewarper_models.experiments.workspace import Workspace
from posewarper_models.train.run import MODEL, Machine, RunError

SCENE = SceneSettings(width=48, height=48, frames=3, people_max=1, occluders=0.0)


@pytest.fixture(scope="module")
def posetrack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in PoseTrack18's layout: four videos to train on, two to test on."""
    folder = tmp_path_factory.mktemp("posetrack")
    for split, count, seed in (("train", 4, 1), ("val", 2, 2)):
        assert len(list(write_clips(folder, SCENE, count, seed, split, workers=1))) == count
    return folder


def test_a_data_sets_last_training_videos_are_kept_for_tuning(posetrack: Path) -> None:
    videos = PoseTrackVideos(posetrack, tune=1)
    names = {split: [clip.id for clip in videos.clips(split)] for split in ("train", "tune", "test", "hard")}
    assert [len(names[split]) for split in ("train", "tune", "test", "hard")] == [3, 1, 2, 0]
    assert len({*names["train"], *names["tune"]}) == 4
    assert videos.name == f"the data set {posetrack.name}"


def test_fewer_clips_than_were_made_are_the_first_of_them(tmp_path: Path) -> None:
    scene = {"scene": asdict(SCENE), "train": SplitSettings(clips=2, seed=1)}
    settings = load_study("smoke").videos.model_copy(update=scene)
    both = SyntheticVideos(settings, tmp_path, False).clips("train")
    fewer = settings.model_copy(update={"train": SplitSettings(clips=1, seed=1)})
    assert [clip.id for clip in SyntheticVideos(fewer, tmp_path, False).clips("train")] == [both[0].id]


def test_a_data_set_with_too_few_videos_is_refused(posetrack: Path) -> None:
    with pytest.raises(AnnotationError, match="4 training videos, but more than 4 are needed"):
        PoseTrackVideos(posetrack, tune=4).clips("train")


def test_a_stride_keeps_labels_and_frames_together(posetrack: Path) -> None:
    clip = replace(PoseTrackVideos(posetrack, tune=1).clips("test")[0], fps=30.0)
    fast = strided(clip, 2)
    assert [frame.labelled for frame in fast.labels.frames] == [frame.labelled for frame in clip.labels.frames[::2]]
    assert fast.fps == 15.0
    np.testing.assert_array_equal(fast.frames[1], clip.frames[2])
    with pytest.raises(IndexError, match="frame 2 of 2"):
        fast.frames[2]


@pytest.fixture
def space(posetrack: Path, tmp_path: Path) -> Workspace:
    study = load_study("smoke")
    return Workspace(study, PoseTrackVideos(posetrack, tune=1), tmp_path, tmp_path, 0, Machine("cpu"), progress=False)


def test_another_regimes_warping_part_starts_from_the_main_ones(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[Path, Path | None] = {}

    def stage(
        self: Workspace, name: str, schedule: object, folder: Path, clips: object, start: Path | None, *dilations: str
    ) -> None:
        started[folder.relative_to(self.own)] = start.relative_to(self.own) if start else None

    monkeypatch.setattr(Workspace, "stage", stage)
    space.posewarper("fast")
    assert started == {
        Path("heatmaps"): None,
        Path("slow/warping-main"): Path("heatmaps") / MODEL,
        Path("fast/warping-main"): Path("slow/warping-main") / MODEL,
    }


def test_networks_of_few_and_of_many_labels_start_alike(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[Path, Path | None] = {}

    def stage(
        self: Workspace, name: str, schedule: object, folder: Path, clips: object, start: Path | None = None
    ) -> None:
        started[folder.relative_to(self.own / "labels")] = start

    monkeypatch.setattr(Workspace, "stage", stage)
    monkeypatch.setattr(Workspace, "predictions", lambda self, folder, method, clips, compute: clips)
    monkeypatch.setattr(labels, "_measured", lambda space, folder, method, make, weights: make())
    space.study = space.study.model_copy(update={"start": "demo.pt"})
    labels.measure(space)
    cell = Path("1x1")
    own = space.own / "labels" / cell / "gt1" / MODEL
    assert started == {cell / "gt1": DEMO, cell / "pgt": DEMO, cell / "gt7": DEMO, cell / "warping": own}


@pytest.fixture
def raft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """RAFT with random weights, where PyTorch would have put the trained ones."""
    from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert raft_weights() is None
    path = tmp_path / "hub" / "checkpoints" / Raft_Large_Weights.DEFAULT.url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(raft_large().state_dict(), path)
    return path


def test_raft_is_the_learned_flow_where_its_weights_are(space: Workspace, raft: Path) -> None:
    name, flow, parameters = learned(space)
    assert name == "RAFT"
    assert parameters == pytest.approx(5.26e6, rel=0.01)
    frames = np.random.default_rng(0).integers(0, 256, (2, 50, 132, 3), np.uint8)  # no multiples of eight
    field = flow(*frames)
    assert field.shape == (50, 132, 2)
    assert np.isfinite(field).all()


def test_a_learned_flow_sees_frames_from_0_to_1() -> None:
    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return torch.stack([first[:, 0], second[:, 2]], dim=1)

    first, second = np.zeros((2, 4, 6, 3), np.uint8)
    first[1, 2, 0], second[3, 4, 2] = 255, 51
    field = LearnedFlow(Seen())(first, second)
    assert (field[1, 2, 0], field[3, 4, 1]) == pytest.approx((1.0, 0.2))
    assert field.sum() == pytest.approx(1.2)


def test_a_learned_flow_that_has_not_learned_takes_no_part(space: Workspace) -> None:
    space.study = space.study.model_copy(update={"flow_check": 1})
    with pytest.raises(UntrainedFlowError, match="on 1 tuning clips"):
        learned(space)


def test_flow_that_was_chosen_from_other_candidates_is_refused(space: Workspace) -> None:
    chosen = tuned(space, "slow", "farneback", False)
    assert tuned(space, "slow", "farneback", False) == chosen
    space.study = space.study.model_copy(update={"farneback": {"window": (7, 9)}})
    with pytest.raises(RunError, match="chosen from other candidates than farneback now has"):
        tuned(space, "slow", "farneback", False)
