"""The layers: torchvision's twin, and the fused one."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import deformwarp

LAYERS = {
    "DeformConv2d": lambda: deformwarp.DeformConv2d(4, 6, (3, 1), 2, (1, 0), (1, 2), groups=2),
    "FusedDeformWarp": lambda: deformwarp.FusedDeformWarp(4, dilations=(1, 2), groups=2, offset_groups=2, bias=True),
}
layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


def _arguments(layer: nn.Module) -> tuple[Any, ...]:
    x = torch.rand(2, 4, 7, 6)
    if isinstance(layer, deformwarp.DeformConv2d):
        return x, torch.randn(2, 6, 4, 3)
    return x, [torch.randn(2, 36, 7, 6) for _ in range(2)], [torch.rand(2, 18, 7, 6) for _ in range(2)]


CONVOLUTIONS = {
    "default": dict(in_channels=3, out_channels=4, kernel_size=3),
    "without_bias": dict(in_channels=3, out_channels=4, kernel_size=3, bias=False),
    "lopsided": dict(
        in_channels=4, out_channels=6, kernel_size=(3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2
    ),
}


@pytest.mark.parametrize("arguments", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
@pytest.mark.parametrize("masked", [False, True], ids=["v1", "v2"])
@pytest.mark.usefixtures("backend")
def test_deform_conv2d_takes_and_gives_torchvisions_state(arguments: dict[str, Any], masked: bool) -> None:
    theirs = torchvision.ops.DeformConv2d(**arguments).double()
    ours = deformwarp.DeformConv2d(**arguments).double()
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(2, arguments["in_channels"], 8, 9, dtype=torch.float64)
    plain = nn.Conv2d(**arguments).double()(x)
    kernel_height, kernel_width = theirs.kernel_size
    taps = kernel_height * kernel_width
    offset = torch.randn(2, 2 * taps, *plain.shape[2:], dtype=torch.float64)
    mask = torch.rand(2, taps, *plain.shape[2:], dtype=torch.float64) if masked else None
    torch.testing.assert_close(ours(x, offset, mask), theirs(x, offset, mask))


@layers
@pytest.mark.usefixtures("backend")
def test_a_model_goes_to_channels_last_with_the_layer_in_it(make: Callable[[], nn.Module]) -> None:
    layer = make()
    arguments = _arguments(layer)
    expected, state = layer(*arguments), copy.deepcopy(layer.state_dict())
    model = nn.Sequential(nn.Conv2d(4, 4, 3), layer).to(memory_format=torch.channels_last)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(*arguments), expected)
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, state[name])


@pytest.mark.parametrize("arguments", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_deform_conv2d_starts_as_torchvisions(arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    theirs = torchvision.ops.DeformConv2d(**arguments).state_dict()
    torch.manual_seed(0)
    ours = deformwarp.DeformConv2d(**arguments).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@layers
def test_state_dict_round_trip(make: Any) -> None:
    layer, other = make(), make()
    with torch.no_grad():
        layer.weight.normal_()
    other.load_state_dict(layer.state_dict())
    arguments = _arguments(layer)
    assert torch.equal(other(*arguments), layer(*arguments))


@layers
@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["deepcopy", "pickle"]
)
def test_a_copied_layer_computes_the_same(make: Any, clone: Any) -> None:
    layer = make()
    arguments = _arguments(layer)
    assert torch.equal(clone(layer)(*arguments), layer(*arguments))


@layers
def test_a_layer_trains(make: Any) -> None:
    layer = make()
    layer(*_arguments(layer)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in layer.parameters())


@layers
def test_repr_names_what_makes_the_layer(make: Any) -> None:
    assert "kernel_size=(3, " in repr(make())
    assert "groups=2" in repr(make())


@pytest.mark.parametrize("groups", [1, 2], ids=["groups=1", "groups=2"])
@pytest.mark.parametrize("scale", [1.0, 0.2], ids=["sum", "mean"])
@pytest.mark.usefixtures("backend")
def test_the_fused_layer_starts_as_the_identity(groups: int, scale: float) -> None:
    layer = deformwarp.FusedDeformWarp(4, groups=groups, scale=scale)
    x = torch.rand(1, 4, 9, 8)
    offsets = [torch.zeros(1, layer.offset_channels, 9, 8)] * 5
    torch.testing.assert_close(layer(x, offsets), 5 * scale * x)


def test_the_fused_layer_says_how_many_channels_offsets_and_masks_need() -> None:
    layer = deformwarp.FusedDeformWarp(6, kernel_size=(5, 3), offset_groups=2)
    assert layer.offset_channels == 60
    assert layer.mask_channels == 30


def test_offset_groups_default_to_one_per_channel() -> None:
    assert deformwarp.FusedDeformWarp(17).offset_channels == 2 * 17 * 9


WRONG = {
    "groups": dict(channels=4, groups=3),
    "out_channels": dict(channels=4, out_channels=3, groups=2),
    "offset_groups": dict(channels=4, offset_groups=3),
    "channels": dict(channels=0),
    "kernel_size": dict(channels=4, kernel_size=0),
    "dilations": dict(channels=4, dilations=()),
    "dilations: 0": dict(channels=4, dilations=(1, 0)),
    "stride": dict(channels=4, stride=(1, 0)),
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG.keys())
def test_a_fused_layer_that_cannot_be_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(groups|channels|kernel_size|dilations|stride).*: is \d+, but should"):
        deformwarp.FusedDeformWarp(**arguments)


def test_padding_that_does_not_go_with_the_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"padding: 'same' needs odd kernel sizes, but the weight's are \[2, 2\]"):
        deformwarp.FusedDeformWarp(4, kernel_size=2)


NO_PAIR = "but should be an int or a pair of ints"
OF_OTHER_TYPES = {
    "kernel_size of three": (dict(kernel_size=(3, 3, 3)), rf"kernel_size: is \(3, 3, 3\), {NO_PAIR}"),
    "kernel_size of one": (dict(kernel_size=(3,)), rf"kernel_size: is \(3,\), {NO_PAIR}"),
    "dilations of one int": (dict(dilations=3), "dilations: is 3, but should be a sequence of D ints or pairs"),
    "dilations of three": (dict(dilations=((1, 2, 3),)), rf"dilations\[0\]: is \(1, 2, 3\), {NO_PAIR}"),
    "scale of text": (dict(scale="1"), "scale: is a str, but should be a number"),
    "scale to learn": (dict(scale=torch.ones((), requires_grad=True)), "scale: is a Tensor, but should be a number"),
}


@pytest.mark.parametrize(("arguments", "message"), OF_OTHER_TYPES.values(), ids=OF_OTHER_TYPES.keys())
def test_arguments_of_other_types_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        deformwarp.FusedDeformWarp(4, **arguments)


def test_a_scale_to_learn_is_refused_by_the_function() -> None:
    x, offsets, weight = torch.rand(1, 1, 2, 2), [torch.rand(1, 2, 2, 2)], torch.rand(1, 1, 1, 1, 1)
    with pytest.raises(TypeError, match="to learn one, multiply the output by a Tensor"):
        deformwarp.fused_deform_warp(x, offsets, weight, dilations=(1,), scale=torch.ones((), requires_grad=True))


def test_no_offset_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="offset_groups: is 0, but should be at least 1"):
        deformwarp.FusedDeformWarp.from_deform_convs([deformwarp.DeformConv2d(4, 4, 3)], offset_groups=0)


@pytest.mark.parametrize("name", ["kernel_size", "stride", "padding", "dilation"])
def test_a_convolutions_pairs_are_two_ints(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}: is \(1, 2, 3\), {NO_PAIR}"):
        deformwarp.DeformConv2d(**{"in_channels": 4, "out_channels": 4, "kernel_size": 3, name: (1, 2, 3)})


def test_a_convolution_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="groups: is 3, but should divide in_channels = 4"):
        deformwarp.DeformConv2d(4, 6, 3, groups=3)
