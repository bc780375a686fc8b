"""The head: offset convolutions and the warp, with few offsets alive at a time where memory is short."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import deformwarp
from deformwarp import WarpHead

both = pytest.mark.parametrize("memory", ["normal", "low"])


def make_head(seed: int = 0, **options: Any) -> WarpHead:
    """A head whose offsets move samples by some pixels, in float64."""
    torch.manual_seed(seed)
    head = WarpHead(6, 4, **{"dilations": (1, 2, 3), **options}).double()
    for conv in head.offset_convs.parameters():
        nn.init.normal_(conv, std=0.3)
    nn.init.normal_(head.warp.weight)
    if head.warp.bias is not None:
        nn.init.normal_(head.warp.bias)
    return head


def make_inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 6, 9, 7, dtype=dtype), torch.rand(2, 4, 9, 7, dtype=dtype)


def gradients(head: WarpHead, *inputs: Tensor) -> dict[str, Tensor]:
    features, input = (one.detach().clone().requires_grad_() for one in inputs)
    output = head(features, input)
    wanted = {"features": features, "input": input, **dict(head.named_parameters())}
    weights = torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype).reshape(output.shape)
    found = torch.autograd.grad(output, list(wanted.values()), weights)
    return {"output": output.detach(), **dict(zip(wanted, found, strict=True))}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")


OPTIONS: dict[str, dict[str, Any]] = {
    "posewarper": {"scale": 1 / 3},
    "biases": {"bias": True, "offset_bias": True, "scale": 0.5},
    "shared_offsets_and_groups": {"offset_groups": 2, "groups": 2, "out_channels": 6},
    "lopsided_kernel_and_dilations": {"kernel_size": (1, 5), "dilations": ((1, 2), (3, 1))},
    "one_dilation": {"dilations": (2,)},
}
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


@both
@options
def test_the_head_is_torchvisions_calls_and_their_sum(options: dict[str, Any], memory: Any) -> None:
    head, (features, input) = make_head(memory=memory, **options), make_inputs()
    warp = head.warp
    expected = torch.zeros(2, warp.out_channels, 9, 7, dtype=torch.float64)
    for conv, weight in zip(head.offset_convs, warp.weight, strict=True):
        padding = [d * (k - 1) // 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        expected += warp.scale * torchvision.ops.deform_conv2d(
            input, conv(features), weight, padding=padding, dilation=conv.dilation
        )
    if warp.bias is not None:
        expected += warp.bias.view(-1, 1, 1)
    assert (head.offsets(features)[0].abs() > 1).any(), "the offsets should move something"
    torch.testing.assert_close(head(features, input), expected)


@options
def test_low_memory_gives_the_same_numbers(options: dict[str, Any]) -> None:
    head, inputs = make_head(**options), make_inputs()
    expected = gradients(head, *inputs)
    head.memory = "low"
    assert_same(gradients(head, *inputs), expected)


@both
def test_it_starts_as_the_identity(memory: Any) -> None:
    features, input = make_inputs(torch.float32)
    torch.testing.assert_close(WarpHead(6, 4, scale=1 / 5, memory=memory)(features, input), input)


@both
@pytest.mark.parametrize("frozen", ["features", "input", "offset_convs", "warp"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(memory: Any, frozen: str) -> None:
    head, inputs = make_head(), make_inputs()
    expected = gradients(head, *inputs)
    head.memory = memory
    features, input = (one.clone().requires_grad_() for one in inputs)
    {"features": features, "input": input, "offset_convs": head.offset_convs, "warp": head.warp}[frozen].requires_grad_(
        False
    )
    output = head(features, input)
    output.backward(torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype).reshape(output.shape))
    for name, one in {"features": features, "input": input, **dict(head.named_parameters())}.items():
        if name.startswith(frozen):
            assert one.grad is None
        else:
            torch.testing.assert_close(one.grad, expected[name])


def test_second_derivatives_are_the_same() -> None:
    head, found = make_head(dilations=(1, 2)), {}
    for memory in ("normal", "low"):
        head.memory = memory
        features, input = (one.requires_grad_() for one in make_inputs())
        (first,) = torch.autograd.grad(head(features, input).square().sum(), features, create_graph=True)
        found[memory] = torch.autograd.grad(first.square().sum(), (features, input))
    torch.testing.assert_close(found["low"], found["normal"])


def test_low_memory_adds_up_half_precision_in_float32() -> None:
    head = make_head(dilations=(1, 2, 3, 4, 5), memory="low").bfloat16()
    features, input = make_inputs(torch.bfloat16)
    parts = [
        deformwarp.fused_deform_warp(input, [offset], weight[None], dilations=[dilation])
        for offset, weight, dilation in zip(head.offsets(features), head.warp.weight, head.warp.dilations, strict=True)
    ]
    expected = torch.stack(parts).float().sum(0).bfloat16()
    assert not torch.equal(sum(parts), expected), "in bfloat16 the sum should be rounded on the way"
    assert torch.equal(head(features, input), expected)


# ---- memory


def kept_for_backward(head: WarpHead, *inputs: Tensor) -> int:
    """Bytes that autograd keeps, without inputs and parameters."""
    given = {one.untyped_storage().data_ptr() for one in (*inputs, *head.parameters())}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in given:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        output = head(*(one.requires_grad_() for one in inputs))
        del output
    return sum(kept.values())


def test_low_memory_keeps_a_fifth_for_the_backward() -> None:
    head, inputs = make_head(dilations=(1, 2, 3, 4, 5)), make_inputs()
    normal = kept_for_backward(head, *inputs)
    assert normal == 5 * head.offsets(inputs[0])[0].nbytes
    head.memory = "low"
    assert kept_for_backward(head, *inputs) <= normal / 4


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the probe reads Linux's /proc")
def test_low_memory_needs_a_quarter_at_its_peak() -> None:
    printed = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("memory_probe.py")), "head", "1", "1"],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "4096", "MALLOC_MMAP_MAX_": "1000000", "MALLOC_ARENA_MAX": "1"},
    ).stdout
    normal, low = map(int, printed.split())
    assert 0 < low <= normal / 4


# ---- copies and bad input


@both
def test_state_dicts_and_copies_do_not_depend_on_memory(memory: Any) -> None:
    head, inputs = make_head(), make_inputs()
    other = make_head(seed=5, memory=memory)
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(other(*inputs), head(*inputs))
    assert copy.deepcopy(other).memory == memory


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": 0}, "features: is 0, but should be at least 1"),
        ({"kernel_size": (3, 2)}, r"kernel_size: is \(3, 2\), but should be odd"),
        ({"offset_groups": 3}, "offset_groups: is 3, but should divide channels = 4"),
        ({"memory": "none"}, "memory: is 'none', but should be one of 'normal', 'low'"),
    ],
    ids=["features", "kernel_size", "offset_groups", "memory"],
)
def test_a_head_that_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WarpHead(**{"features": 6, "channels": 4, **arguments})


def test_memory_is_checked_when_it_is_changed() -> None:
    with pytest.raises(ValueError, match="memory: is 'high'"):
        WarpHead(6, 4).memory = "high"  # type: ignore[assignment]


@both
@pytest.mark.parametrize(
    ("features", "input", "message"),
    [
        ((2, 5, 9, 7), (2, 4, 9, 7), r"features: shape is \[2, 5, 9, 7\], but should be \[N, 6, H, W\]"),
        ((2, 6, 9, 7), (2, 9, 7), r"input: shape is \[2, 9, 7\], but should be \[N, 4, H, W\]"),
        ((2, 6, 8, 7), (2, 4, 9, 7), r"features: shape is \[2, 6, 8, 7\], but should be \[2, 6, 9, 7\]"),
        ((1, 6, 9, 7), (2, 4, 9, 7), r"features: shape is \[1, 6, 9, 7\], but should be \[2, 6, 9, 7\]"),
    ],
    ids=["features", "input", "size", "batch"],
)
def test_wrong_shapes_are_named(memory: Any, features: Any, input: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WarpHead(6, 4, memory=memory)(torch.rand(features), torch.rand(input))
