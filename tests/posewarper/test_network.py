"""The network is the paper's."""

from __future__ import annotations

import pytest
import torch
from tiny import TINY, TinyBackbone
from torch import nn
from torchvision.ops import deform_conv2d

from posewarper_models import PoseWarper, build_posewarper


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_warping_part_has_the_papers_parameters() -> None:
    warping = build_posewarper(TinyBackbone()).warping
    without_offset_convolutions = parameters(warping) - parameters(warping.offset_convs)
    assert round(without_offset_convolutions / 1e6, 1) == 5.8
    # Twenty blocks of two 3x3 convolutions of 128 channels and their batch norms; the first enters from 17 channels.
    block = 2 * (128 * 128 * 9 + 2 * 128)
    first = (17 * 128 * 9 + 2 * 128) + (128 * 128 * 9 + 2 * 128) + (17 * 128 + 2 * 128)
    assert without_offset_convolutions == first + 19 * block + 5 * 17 * 17 * 9
    assert parameters(warping.offset_convs) == 5 * (2 * 9 * 17) * 128 * 9


def test_the_warp_is_five_torchvision_calls_and_their_sum(tiny: PoseWarper) -> None:
    a, b = torch.rand(2, 2, 3, 64, 48)
    f_a, f_b = tiny.heatmaps(a), tiny.heatmaps(b)
    features = tiny.warping.offset_feats(f_a - f_b)
    expected = torch.zeros_like(f_a)
    for d, conv, weight in zip(TINY["dilations"], tiny.warping.offset_convs, tiny.warping.warp.weight, strict=True):
        expected += deform_conv2d(f_b, conv(features), weight, padding=d, dilation=d) / len(TINY["dilations"])
    assert (tiny.warping.offsets(f_a - f_b)[0].abs() > 0.5).any(), "the offsets should move something"
    torch.testing.assert_close(tiny(a, b), expected, rtol=1e-4, atol=1e-5)


def test_training_starts_from_the_supporting_frames_heatmap() -> None:
    model = build_posewarper(TinyBackbone(), **TINY).eval()
    a, b = torch.rand(2, 1, 3, 64, 48)
    torch.testing.assert_close(model(a, b), model.heatmaps(b))


def test_the_papers_scale_sums_the_branches() -> None:
    model = build_posewarper(TinyBackbone(), **TINY, scale=1.0).eval()
    frame = torch.rand(1, 3, 64, 48)
    torch.testing.assert_close(model(frame, frame), 3 * model.heatmaps(frame))


def test_propagation_reverses_the_direction(tiny: PoseWarper) -> None:
    labelled, unlabelled = torch.rand(2, 2, 3, 64, 48)
    y = torch.rand(2, 17, 16, 12)
    f_labelled, f_unlabelled = tiny.heatmaps(labelled), tiny.heatmaps(unlabelled)
    expected = tiny.warping(f_unlabelled - f_labelled, y)
    torch.testing.assert_close(tiny.propagate(labelled, unlabelled, y), expected)
    wrong_way = tiny.warping(f_labelled - f_unlabelled, y)
    assert not torch.allclose(expected, wrong_way, atol=1e-3)


def test_aggregation_is_the_weighted_sum_of_warps_to_the_reference(tiny: PoseWarper) -> None:
    reference, supports = torch.rand(2, 3, 64, 48), torch.rand(2, 3, 3, 64, 48)
    weights = (0.25, 0.3, 0.1)
    expected = sum(w * tiny(reference, supports[:, f]) for f, w in enumerate(weights))
    torch.testing.assert_close(tiny.aggregate(reference, supports, weights), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050"])
def test_any_timm_backbone_gives_heatmaps_of_a_quarter(name: str) -> None:
    model = build_posewarper(name, **TINY, num_joints=5, backbone_settings={"width": 16}).eval()
    assert model(torch.rand(1, 3, 64, 96), torch.rand(1, 3, 64, 96)).shape == (1, 5, 16, 24)


def test_every_parameter_of_the_warping_part_gets_a_gradient(tiny: PoseWarper) -> None:
    a, b = torch.rand(2, 2, 3, 64, 48)
    tiny.train()(a, b).square().sum().backward()
    for name, parameter in tiny.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


FRAME = torch.zeros(2, 3, 64, 48)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.heatmaps(torch.zeros(2, 1, 64, 48)), r"frames: is \[2, 1, 64, 48\]"),
        (lambda m: m.heatmaps(FRAME.byte()), "frames: is torch.uint8"),
        (lambda m: m(FRAME, FRAME[:1]), r"support: is \[1, 3, 64, 48\], but should be \[2, 3, 64, 48\]"),
        (lambda m: m.propagate(FRAME, FRAME[:1], FRAME), "unlabelled: is"),
        (lambda m: m.propagate(FRAME, FRAME, torch.zeros(2, 17, 64, 48)), r"heatmap: .* \[2, 17, 16, 12\]"),
        (lambda m: m.aggregate(FRAME, FRAME, [1.0]), "supports: is"),
        (lambda m: m.aggregate(FRAME, FRAME[:, None], [1.0, 2.0]), "weights: are 2, but should be 1"),
    ],
    ids=["channels", "integers", "batch", "propagate", "heatmap", "supports", "weights"],
)
def test_wrong_frames_are_named(tiny: PoseWarper, call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(tiny)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "resnet99"}, r"timm does not know 'resnet99'; similar names: resnet\d"),
        ({"backbone": "vit_tiny_patch16_224"}, "features at strides"),
        ({"num_blocks": 0}, "num_blocks: is 0"),
        ({"dilations": ()}, "dilations"),
        ({"dilations": (0, 1)}, "dilations"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_impossible_networks_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_posewarper(**{"backbone": TinyBackbone(), **arguments})


def test_a_backbone_of_other_joints_is_named() -> None:
    model = build_posewarper(TinyBackbone(5))
    with pytest.raises(ValueError, match=r"backbone: returned \[2, 5, 16, 12\]"):
        model.heatmaps(FRAME)
