"""What people do with a PoseWarper, as data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.posewarper.networks import Network, Trained, Untrained
from posewarper_models.aggregate import WEIGHTS
from posewarper_models.backbones import STRIDE
from posewarper_models.checkpoints import DEMO
from posewarper_models.network import PoseWarper
from posewarper_models.propagate import REACH
from posewarper_models.train.modules import heatmap_loss


def _warped_pair(model: PoseWarper, heatmaps: Tensor) -> Tensor:
    f_a, f_b = heatmaps  # [2, N, J, h, w]
    return model.warped(f_a, f_b)


def _heatmaps(model: PoseWarper, crops: Tensor) -> Tensor:
    """[F, N, J, h, w] of F frames [F, N, 3, H, W]; the backbone is frozen, as in stage 2."""
    with torch.no_grad():
        return model.heatmaps(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])


def _pair(model: PoseWarper, crops: Tensor) -> Tensor:
    return _warped_pair(model, _heatmaps(model, crops))


def _clip(model: PoseWarper, crops: Tensor) -> Tensor:
    """The authors' weighted sum of the frames' heatmaps, warped to the frame in the middle."""
    heatmaps = _heatmaps(model, crops)
    middle = heatmaps[len(heatmaps) // 2].expand_as(heatmaps)
    warped = model.warped(middle.flatten(0, 1), heatmaps.flatten(0, 1)).unflatten(0, crops.shape[:2])
    weights = torch.tensor([*WEIGHTS["authors"].values()], device=warped.device)
    return (warped * weights.view(-1, 1, 1, 1, 1)).sum(dim=0)


@dataclass(frozen=True)
class Source:
    """Where a case begins."""

    frames: int
    are_heatmaps: bool
    predict: Callable[[PoseWarper, Tensor], Tensor]  # [frames, N, ...] -> [N, J, h, w]

    def shape(self, model: PoseWarper) -> tuple[int, int, int]:
        """Of one frame."""
        height, width = model.image_size
        return (model.num_joints, height // STRIDE, width // STRIDE) if self.are_heatmaps else (3, height, width)


HEATMAPS = Source(2, True, _warped_pair)
PAIR = Source(2, False, _pair)
CLIP = Source(len(WEIGHTS["authors"]), False, _clip)


@dataclass(frozen=True)
class Case:
    """One thing people do."""

    name: str
    source: Source
    batch: int
    training: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A network, and what is done with it."""

    network: Network
    cases: tuple[Case, ...]


BENCHMARKS = {
    "demo": Benchmark(
        Trained(DEMO),
        (
            Case("inference, one pair of heatmaps", HEATMAPS, 1),
            Case("inference, 6 pairs of heatmaps", HEATMAPS, 2 * REACH),  # what one label is carried to
            Case("inference, 16 pairs of heatmaps", HEATMAPS, 16),
            Case("training step, 16 pairs of heatmaps", HEATMAPS, 16, training=True),
        ),
    ),
    "paper": Benchmark(
        Untrained(),  # HRNet-W48 at 384x288, and twenty residual blocks
        (
            Case("step of stage 2, 8 pairs of crops", PAIR, 8, training=True),
            Case("inference, 8 clips of 5 crops", CLIP, 8),
            Case("inference, one clip of 5 crops", CLIP, 1),
            Case("step of the warping part alone, 8 pairs of heatmaps", HEATMAPS, 8, training=True),
        ),
    ),
}


@dataclass(frozen=True)
class Precision:
    """What is computed in what, and by how much two ways to do it may differ.

    ``tolerance`` bounds relative Frobenius norms of differences: of the heatmaps, the loss, and each weight's gradient.
    """

    autocast: torch.dtype | None
    tolerance: Mapping[str, float]

    def on(self, device: str) -> torch.autocast:
        """What surrounds a prediction."""
        return torch.autocast(device, self.autocast, enabled=self.autocast is not None)


PRECISIONS = {
    "float32": Precision(None, {"heatmaps": 1e-4, "loss": 1e-4, "gradients": 1e-4}),
    # torchvision casts to float32 for the calls and rounds each of their results; gradients then pass forty
    # convolutions that round to 2^-9.
    "bfloat16": Precision(torch.bfloat16, {"heatmaps": 2e-2, "loss": 2e-3, "gradients": 5e-2}),
}


def make_inputs(model: PoseWarper, case: Case) -> tuple[Tensor, Tensor]:
    """What the case begins with, [frames, N, ...], and the target heatmaps [N, J, h, w]: random, on the model's device.

    Heatmaps lie between 0 and 1; crops are normalised.
    """
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand if case.source.are_heatmaps else torch.randn
    given = draw(case.source.frames, case.batch, *case.source.shape(model), generator=generator)
    target = torch.rand(case.batch, *HEATMAPS.shape(model), generator=generator)
    device = next(model.parameters()).device
    return given.to(device), target.to(device)


def _loss(case: Case, model: PoseWarper, given: Tensor, target: Tensor, precision: Precision) -> tuple[Tensor, Tensor]:
    with precision.on(given.device.type):
        predicted = case.source.predict(model, given)
        return predicted, heatmap_loss(predicted, target, torch.ones_like(target[:, :, :1, :1]))


def _prepared(case: Case, model: PoseWarper) -> PoseWarper:
    """A copy in the mode of the case; the backbone stays frozen, statistics included."""
    model = copy.deepcopy(model).eval()
    model.backbone.requires_grad_(False)
    model.warping.train(case.training)
    return model


def make_run(case: Case, model: PoseWarper, precision: Precision) -> Callable[[], Tensor]:
    """One inference, or one step of stage 2, Adam included."""
    given, target = make_inputs(model, case)
    model = _prepared(case, model)
    if not case.training:

        @torch.inference_mode()
        def infer() -> Tensor:
            with precision.on(given.device.type):
                return case.source.predict(model, given)

        return infer
    optimizer = torch.optim.Adam(model.warping.parameters(), 1e-4)

    def step() -> Tensor:
        optimizer.zero_grad()
        _, loss = _loss(case, model, given, target, precision)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def values_of(case: Case, model: PoseWarper, precision: Precision) -> dict[str, list[Tensor]]:
    """What must be the same: the heatmaps, their loss, and where it trains the gradient of every weight."""
    given, target = make_inputs(model, case)
    model = _prepared(case, model)
    with torch.set_grad_enabled(case.training):
        heatmaps, loss = _loss(case, model, given, target, precision)
    values = {"heatmaps": [heatmaps.detach()], "loss": [loss.detach()]}
    if case.training:
        loss.backward()
        weights = dict(model.warping.named_parameters())
        values["gradients"] = [weights[name].grad for name in sorted(weights)]  # type: ignore[misc]
    return values
