"""The learned flow: what it is trained by, that it learns, and that none is taken for one that has learned."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from posewarper_models.data.annotations import Clip, FrameLabels, Labels, Person
from posewarper_models.experiments import flow_losses, flow_training
from posewarper_models.experiments.comparison import task
from posewarper_models.experiments.flow_check import (
    UntrainedFlowError,
    require_learned,
    require_own_predictions,
)
from posewarper_models.experiments.flow_losses import (
    NOISE,
    census_error,
    known_flow_loss,
    known_pairs,
    unsupervised_loss,
)
from posewarper_models.experiments.flow_network import FlowNetwork, LearnedFlow, resized, standardised, warped
from posewarper_models.experiments.flow_training import train_flow
from posewarper_models.experiments.settings import FlowNetworkSettings, Schedule
from posewarper_models.skeleton import NUM_JOINTS
from posewarper_models.train.run import RunError
from posewarper_models.video import ArrayFrames

STEP = (4, 2)  # pixels a frame


@pytest.fixture
def walking() -> Clip:
    """A texture that moves by STEP a frame, with one person on it."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (48, 64, 3), np.uint8), (192, 144), interpolation=cv2.INTER_CUBIC)
    images = np.stack([image[20 - 2 * i : 116 - 2 * i, 40 - 4 * i : 168 - 4 * i] for i in range(8)])
    first = np.stack([np.linspace(30, 60, NUM_JOINTS), np.linspace(20, 60, NUM_JOINTS)], axis=1)
    frames = []
    for index in range(8):
        keypoints = np.concatenate([first + index * np.array(STEP), np.ones((NUM_JOINTS, 1))], axis=1)
        x, y = keypoints[:, :2].min(axis=0)
        person = Person(5, (x, y, 30.0, 40.0), keypoints, (x, y, 6.0, 8.0))
        frames.append(FrameLabels(100 + index, f"a/clip/{index:06d}.jpg", (person,)))
    return Clip(Labels("clip", tuple(frames), "PoseTrack18", "test"), ArrayFrames(images))


def shifted_pair(shift: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames [1, 3, 40, 48]: what is at p in the first is at p + shift in the second."""
    torch.manual_seed(0)
    noise = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 62, 70), 3)[:, :, :60, :68]
    noise = torch.nn.functional.interpolate(noise, size=(60, 68), mode="bilinear")
    dx, dy = shift
    return noise[..., 10:50, 10:58], noise[..., 10 - dy : 50 - dy, 10 - dx : 58 - dx]


def test_warping_by_the_flow_gives_the_first_frame() -> None:
    first, second = shifted_pair((3, -2))
    flow = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 40, 48)
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(warped(second, flow)[inner], first[inner], atol=1e-5, rtol=0)


def test_the_true_flow_has_the_lowest_loss() -> None:
    class Constant(FlowNetwork):
        def by_level(self, ours: torch.Tensor, theirs: torch.Tensor) -> list[torch.Tensor]:
            there = torch.tensor(self.guess).view(1, 2, 1, 1).expand(1, 2, 40, 48)
            return [torch.cat([there, -there])]

    losses = {}
    for guess in [(3.0, -2.0), (0.0, 0.0), (2.0, -2.0), (-3.0, 2.0)]:
        network = Constant(channels=(4, 4), reach=1, width=4)
        network.guess = guess
        losses[guess] = float(unsupervised_loss(network, *shifted_pair((3, -2))))
    assert min(losses, key=losses.__getitem__) == (3.0, -2.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_fresh_network_learns_from_what_the_frames_look_like(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_losses, "SMOOTHNESS", 0.0)
    first, second = shifted_pair((3, -2))
    torch.manual_seed(seed)
    network = FlowNetwork(channels=(8, 8), reach=4, width=8)
    unsupervised_loss(network, first, second).backward()
    assert sum(float(p.grad.abs().sum()) for p in network.parameters() if p.grad is not None) > 1e-3


def test_a_fresh_network_says_that_next_to_nothing_moves() -> None:
    torch.manual_seed(0)
    network = FlowNetwork()
    assert network(*torch.rand(2, 1, 3, 64, 96)).abs().max() < 1.0


def test_features_are_compared_at_one_scale() -> None:
    features = standardised(torch.rand(2, 4, 9, 7) * 1e-3 + torch.arange(4.0).view(1, 4, 1, 1))
    torch.testing.assert_close(features.mean(dim=(2, 3)), torch.zeros(2, 4), atol=1e-3, rtol=0)
    torch.testing.assert_close(features.std(dim=(2, 3)), torch.ones(2, 4), atol=1e-2, rtol=0)


def test_known_pairs_are_moved_by_the_known_flow() -> None:
    frames = torch.nn.functional.interpolate(torch.rand(2, 3, 12, 16), size=(48, 64), mode="bilinear")
    first, second, flow = known_pairs(frames, torch.Generator().manual_seed(0))
    assert flow.square().sum(dim=1).sqrt().amax(dim=(1, 2)).min() > 2
    error = census_error(first, second, flow, flow)
    assert error < 0.9 * census_error(first, second, flow, torch.zeros_like(flow))
    assert (first - warped(second, flow)).abs().median() < 4 * NOISE  # twice the noise, and interpolated


def test_coarse_flows_are_held_to_known_ones_in_pixels_of_the_frames() -> None:
    class Coarse(FlowNetwork):
        def by_level(self, ours: torch.Tensor, theirs: torch.Tensor) -> list[torch.Tensor]:
            levels = [torch.tensor([1.5, -1.0]), torch.tensor([3.0, -2.0]), torch.tensor([12.0, -8.0])]
            return [each.view(1, 2, 1, 1).expand(1, 2, 5 * n, 6 * n) for each, n in zip(levels, (1, 2, 8), strict=True)]

    flow = torch.tensor([12.0, -8.0]).view(1, 2, 1, 1).expand(1, 2, 40, 48)
    network = Coarse(channels=(4, 4), reach=1, width=4)
    assert float(known_flow_loss(network, *shifted_pair((0, 0)), flow)) == pytest.approx(0.01)  # its rounding at zero
    assert float(known_flow_loss(network, *shifted_pair((0, 0)), 0.5 * flow)) == pytest.approx(52**0.5, abs=0.01)


def shifted_textures(count: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """First and second frames [N, 3, 48, 64] and the flow between them, up to 8 pixels either way."""
    texture = torch.rand(count, 3, 20, 24, generator=rng)
    texture = torch.nn.functional.interpolate(texture, size=(80, 96), mode="bicubic").clamp(0, 1)
    shifts = torch.randint(-8, 9, (count, 2), generator=rng)
    second = [one[:, 16 - y : 64 - y, 16 - x : 80 - x] for one, (x, y) in zip(texture, shifts.tolist(), strict=True)]
    flow = shifts.float().view(count, 2, 1, 1).expand(count, 2, 48, 64)
    return texture[..., 16:64, 16:80], torch.stack(second), flow


def test_a_few_dozen_steps_bring_the_error_well_below_that_of_no_motion() -> None:
    torch.manual_seed(0)
    network = FlowNetwork(channels=(16, 32), reach=3, width=32)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    rng = torch.Generator().manual_seed(1)
    for _ in range(60):
        optimizer.zero_grad()
        known_flow_loss(network, *shifted_textures(4, rng)).backward()
        optimizer.step()
    first, second, flow = shifted_textures(16, rng)
    with torch.no_grad():
        error = (network(first, second) - flow)[..., 8:-8, 8:-8].norm(dim=1).mean()
    assert error < 0.6 * flow.norm(dim=1).mean()


def test_flow_at_another_size_points_to_the_same_place() -> None:
    flow = torch.tensor([2.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 4, 8)
    larger = resized(flow, (12, 16))
    assert larger.shape == (1, 2, 12, 16)
    assert larger[0, :, 5, 5].tolist() == [4.0, 3.0]


def test_learned_flow_takes_frames_of_any_size() -> None:
    flow = LearnedFlow(FlowNetwork(channels=(4, 4, 4), reach=1, width=4))
    image = np.zeros((37, 51, 3), np.uint8)
    assert flow(image, image).shape == (37, 51, 2)


def test_an_interrupted_flow_training_goes_on_as_if_nothing_had_been(
    walking: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_training, "CHECKPOINT_EVERY", 5)
    brief = Schedule(learning_rate=1e-3, batch_size=1, steps=20)
    settings = FlowNetworkSettings(channels=(4, 4), reach=1, width=4, schedule=brief, size=(32, 32))

    def run(path: Path) -> FlowNetwork:
        return flow_training.train_flow(settings, [walking], 3, path, seed=1, progress=False)

    whole = run(tmp_path / "whole.ckpt")
    batch, taken = flow_training.flow_batch, []

    def breaking(*arguments: object) -> torch.Tensor:
        taken.append(arguments)
        if len(taken) == 13:
            raise KeyboardInterrupt
        return batch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(flow_training, "flow_batch", breaking)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken.ckpt")
    resumed = run(tmp_path / "broken.ckpt")
    assert len(taken) == 13 + 10  # on from step 10
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_of_other_settings_is_refused(walking: Clip, tmp_path: Path) -> None:
    def run(steps: int, furthest: int = 3) -> None:
        brief = Schedule(learning_rate=1e-3, batch_size=1, steps=steps, epochs=1)
        settings = FlowNetworkSettings(channels=(4, 4), reach=1, width=4, schedule=brief, size=(32, 32))
        train_flow(settings, [walking], furthest, tmp_path / "flow.ckpt", seed=1, progress=False)

    run(2)
    run(2)
    with pytest.raises(RunError, match=r"was trained with schedule .*'steps': 2.* should be with .*'steps': 3"):
        run(3)
    with pytest.raises(RunError, match="was trained with furthest 3, but should be with 2"):
        run(2, furthest=2)


def test_a_checkpoint_that_does_not_say_its_settings_is_refused(walking: Clip, tmp_path: Path) -> None:
    torch.save({"step": 1, "network": {}, "optimizer": {}}, tmp_path / "flow.ckpt")
    settings = FlowNetworkSettings(channels=(4, 4), size=(32, 32))
    with pytest.raises(RunError, match="was trained with channels None"):
        train_flow(settings, [walking], 3, tmp_path / "flow.ckpt", seed=1, progress=False)


def test_an_untrained_flow_is_refused(walking: Clip) -> None:
    torch.manual_seed(0)
    flow = LearnedFlow(FlowNetwork(channels=(4, 4, 4), reach=1, width=4))
    with pytest.raises(UntrainedFlowError, match=r"1 tuning clips its census error is .*below .*above .*copied labels"):
        require_learned([task(walking, 7, (64, 64))], flow)


def test_a_flow_that_follows_the_motion_has_learned(walking: Clip) -> None:
    made = task(walking, 7, (64, 64))
    places = {frame.tobytes(): index for index, frame in enumerate(walking.frames)}

    def true_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        steps = places[second.tobytes()] - places[first.tobytes()]
        return np.full((*first.shape[:2], 2), steps * np.array(STEP), np.float32)

    require_learned([made], true_flow)
    with pytest.raises(UntrainedFlowError):
        require_learned([made], lambda first, second: -true_flow(first, second))


def test_predictions_of_another_flow_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours, theirs = (FlowNetwork(channels=(4, 4), reach=1, width=4) for _ in range(2))
    require_own_predictions(ours, tmp_path)
    predictions = tmp_path / "slow" / "predictions" / "learned-chained.json"
    predictions.parent.mkdir(parents=True)
    predictions.write_text("{}")
    require_own_predictions(ours, tmp_path)
    with pytest.raises(RunError, match=r"learned-chained\.json: was predicted by a learned flow with other weights"):
        require_own_predictions(theirs, tmp_path)
    (tmp_path / "flow.sha256").unlink()
    with pytest.raises(RunError, match="other weights"):
        require_own_predictions(ours, tmp_path)
