"""Fusing can be undone, and state dicts keep the keys of before; MMPose's neck."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
import torchvision
from fuse_models import PoseWarperNeck
from test_fuse import AuthorsHead, Head, LoopHead, double
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from deformwarp import FusedDeformWarp, fuse_deform_convs, unfuse

WEIGHTS = (0.5, 0.0, 0.25)


class Inputs(nn.Module):
    """Calls a model with inputs of its kind."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.model, PoseWarperNeck):
            return self.model([x[:, :3], x[:, 1:], x[:, :3].flip(2)], WEIGHTS)
        return self.model(x, x.flip(3)) if isinstance(self.model, AuthorsHead) else self.model(x)


MODELS: dict[str, Any] = {
    "list": lambda: Head(bias=False),
    "list_with_biases": lambda: LoopHead(bias=True),
    "authors": AuthorsHead,
    "mmpose": PoseWarperNeck,
}


@pytest.fixture(params=MODELS.values(), ids=MODELS)
def model(request: pytest.FixtureRequest) -> Inputs:
    torch.manual_seed(0)
    return Inputs(request.param()).double()


X = torch.rand(1, 4, 24, 9, dtype=torch.float64)


def test_what_was_fused_computes_the_same_and_is_reported(model: Inputs) -> None:
    expected = model(X)
    report = fuse_deform_convs(model)
    assert len(report.fused) == 1
    assert (report.replaced, report.skipped) == ([], [])
    assert sum(isinstance(one, FusedDeformWarp) for one in model.modules()) == 1
    assert not any(isinstance(one, torchvision.ops.DeformConv2d) for one in model.modules())
    torch.testing.assert_close(model(X), expected)


def test_unfuse_gives_back_the_model_of_before(model: Inputs) -> None:
    before = copy.deepcopy(model)
    fused = fuse_deform_convs(model).fused[0].convs
    assert sorted(unfuse(model)) == sorted(fused)
    names = [(name, type(module)) for name, module in model.named_modules()]
    assert names == [(name, type(module)) for name, module in before.named_modules()]
    state, expected = model.state_dict(), before.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert torch.equal(model(X), before(X))
    assert vars(model.model).keys() == vars(before.model).keys()


def test_state_dicts_go_both_ways(model: Inputs) -> None:
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.rand_like(parameter))
    fuse_deform_convs(model)
    model.load_state_dict(other.state_dict())  # into a fused model
    expected = other(X)
    torch.testing.assert_close(model(X), expected)
    state = model.state_dict()
    assert state.keys() == other.state_dict().keys()
    other.load_state_dict({name: torch.zeros_like(value) for name, value in state.items()})
    other.load_state_dict(state)  # out of a fused model
    torch.testing.assert_close(other(X), expected)


def test_a_state_dict_that_was_written_into_is_loaded(model: Inputs) -> None:
    fuse_deform_convs(model)
    state = model.state_dict()
    for value in state.values():
        value.zero_()
    model.load_state_dict(state)
    assert not any(parameter.any() for parameter in model.parameters())


def test_an_average_by_parameters_has_the_biases(model: Inputs) -> None:
    fuse_deform_convs(model)
    average = AveragedModel(model)
    average.update_parameters(model)  # the first is the model itself
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    average.update_parameters(model)
    for own, other in zip(model.parameters(), average.module.parameters(), strict=True):
        torch.testing.assert_close(other, own - 0.5)


def test_training_goes_on_after_unfuse(model: Inputs) -> None:
    fuse_deform_convs(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    model(X).square().sum().backward()
    optimiser.step()
    expected = model(X)
    unfuse(model)
    torch.testing.assert_close(model(X), expected)
    model(X).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_copy_is_undone_by_itself() -> None:
    model = Inputs(Head()).double()
    expected = model(X)
    fuse_deform_convs(model)
    other = copy.deepcopy(model)
    unfuse(other)
    assert type(other.model) is Head
    torch.testing.assert_close(other(X), expected)
    torch.testing.assert_close(model(X), expected)
    assert type(model.model) is not Head


def test_replaced_convolutions_come_back_with_their_parameters() -> None:
    conv = torchvision.ops.DeformConv2d(4, 4, 3, padding=1)
    model = nn.ModuleDict({"a": conv, "b": conv}).eval()
    fuse_deform_convs(model)
    assert unfuse(model) == ["a"]
    assert type(model["a"]) is torchvision.ops.DeformConv2d
    assert model["a"] is model["b"]
    assert model["a"].weight is conv.weight
    assert not model["a"].training


def test_children_that_came_after_fusing_stay() -> None:
    head = Head().double()
    fuse_deform_convs(head)
    head.added = nn.Linear(1, 1)
    head.offset_layers[0] = other = nn.Conv2d(4, 18, 1).double()
    unfuse(head)
    assert list(dict(head.named_children())) == ["offset_layers", "deform_layers", "added"]
    assert head.offset_layers[0] is other


def test_a_model_without_anything_fused_stays_as_it_is() -> None:
    assert unfuse(nn.Linear(1, 1)) == []
    with pytest.raises(TypeError, match=r"model: is a list, but should be a torch\.nn\.Module"):
        unfuse([])  # type: ignore[arg-type]


class Subclass(PoseWarperNeck):
    def forward(self, inputs: Any, frame_weight: Any) -> Tensor:
        return 2 * super().forward(inputs, frame_weight)


def with_another_count() -> PoseWarperNeck:
    neck = PoseWarperNeck()
    neck.num_offset_layers = 2
    return neck


def with_unequal_layers() -> PoseWarperNeck:
    neck = PoseWarperNeck()
    neck.deform_conv_layers[1] = torchvision.ops.DeformConv2d(4, 4, 5, padding=4, dilation=2, bias=False)
    return neck


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Subclass, "its forward is not that of MMPose's PoseWarperNeck"),
        (with_another_count, "not as many offset_layers and deform_conv_layers"),
        (with_unequal_layers, r"convs\[1\]: kernel_size is \(5, 5\), but should be \(3, 3\)"),
    ],
    ids=["subclass", "count", "unequal"],
)
def test_a_neck_that_is_another_is_refused_with_a_reason(make: Any, reason: str) -> None:
    neck = make()
    report = fuse_deform_convs(neck)
    assert report.fused == []
    assert len(report.replaced) == 3
    assert re.search(reason, str(report)), str(report)


class TwiceHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        return sum(self.results(x)) + sum(self.results(2 * x))


def test_convolutions_that_are_always_summed_together_become_one_layer_that_is_called_again() -> None:
    head, x = TwiceHead().double(), double(1, 4, 9, 7)
    expected = head(x)
    assert len(fuse_deform_convs(head).fused) == 1
    torch.testing.assert_close(head(x), expected)


class ContiguousHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        pairs = zip(self.offset_layers, self.deform_layers, strict=True)
        return sum(deform(x.contiguous(), offset(x).contiguous()) for offset, deform in pairs)


def test_inputs_that_are_made_contiguous_are_one_input() -> None:
    """The authors' code does so before every call."""
    head, x = ContiguousHead().double(), double(1, 4, 9, 7)
    expected = head(x)
    assert len(fuse_deform_convs(head).fused) == 1
    torch.testing.assert_close(head(x), expected)
