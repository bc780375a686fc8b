"""Fusing and replacing the deformable convolutions of a model: the same numbers, and no silent change of meaning."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from functools import reduce
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import deformwarp
from deformwarp import DeformConv2d, FusedDeformWarp, fuse_deform_convs
from deformwarp.deform_convs import describe_deform_conv

Theirs = torchvision.ops.DeformConv2d
DILATIONS = (1, 2, 3)


def convs_of(channels: int = 4, dilations: tuple[int, ...] = DILATIONS, **options: Any) -> list[nn.Module]:
    return [Theirs(channels, channels, 3, padding=d, dilation=d, **options) for d in dilations]


class Head(nn.Module):
    """Offset convolutions and a ModuleList of deformable ones; subclasses say how the results are summed."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.offset_layers = nn.ModuleList(nn.Conv2d(4, 18, 3, padding=1) for _ in DILATIONS)
        self.deform_layers = nn.ModuleList(convs_of(**options))

    def results(self, x: Tensor) -> list[Tensor]:
        pairs = zip(self.offset_layers, self.deform_layers, strict=True)
        return [deform(x, offset(x)) for offset, deform in pairs]

    def forward(self, x: Tensor) -> Tensor:
        return sum(self.results(x))


class LoopHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        out = 0
        for offset, deform in zip(self.offset_layers, self.deform_layers, strict=True):
            out += deform(x, offset(x))
        return out / len(self.deform_layers)


class ZerosHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for result in self.results(x):
            out += result
        return out


class ReduceHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        return 0.25 * reduce(torch.add, self.results(x))


class StackHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack(self.results(x)).sum(0)


class MeanHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        return torch.mean(torch.stack(self.results(x), dim=1), dim=1)


class MethodHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.results(x)
        return a.add(b).add_(c).mul(0.5)


class ResidualHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.results(x)
        return 2 * (x + a) + 2 * (b + c)


SCALES = {
    Head: 1,
    LoopHead: 1 / 3,
    ZerosHead: 1,
    ReduceHead: 0.25,
    StackHead: 1,
    MeanHead: 1 / 3,
    MethodHead: 0.5,
    ResidualHead: 2,
}


class AuthorsHead(nn.Module):
    """The attributes of the PoseWarper authors' network, in small."""

    def __init__(self) -> None:
        super().__init__()
        self.offset_feats = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(inplace=True))
        for n, d in enumerate((3, 6, 12, 18, 24), 1):
            offsets = nn.Conv2d(6, 2 * 4 * 9, 3, padding=d, dilation=d, bias=False)
            setattr(self, f"offsets{n}", offsets)
            setattr(self, f"deform_conv{n}", Theirs(4, 4, 3, padding=d, dilation=d, bias=False))

    def forward(self, reference: Tensor, support: Tensor) -> Tensor:
        features = self.offset_feats(reference - support)
        warped_1 = self.deform_conv1(support, self.offsets1(features))
        warped_2 = self.deform_conv2(support, self.offsets2(features))
        warped_3 = self.deform_conv3(support, self.offsets3(features))
        warped_4 = self.deform_conv4(support, self.offsets4(features))
        warped_5 = self.deform_conv5(support, self.offsets5(features))
        return 0.2 * (warped_1 + warped_2 + warped_3 + warped_4 + warped_5)


class MaskedHead(Head):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return sum(
            deform(x, offset(x), mask=mask)
            for offset, deform in zip(self.offset_layers, self.deform_layers, strict=True)
        )


def run(model: nn.Module, *inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Output, and the gradients of inputs and of the parameters that are no deformable convolution's."""
    inputs = tuple(one.detach().clone().requires_grad_() for one in inputs)
    model.zero_grad()
    output = model(*inputs)
    weights = torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype).reshape(output.shape)
    (output * weights).sum().backward()
    grads = {f"input {n}": one.grad for n, one in enumerate(inputs)}
    grads |= {
        name: one.grad.clone() for name, one in model.named_parameters() if "deform" not in name and one.requires_grad
    }
    return output.detach(), grads


def assert_same(before: tuple[Tensor, dict[str, Tensor]], after: tuple[Tensor, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(after[0], before[0])
    assert after[1].keys() == before[1].keys()
    for name, grad in before[1].items():
        torch.testing.assert_close(after[1][name], grad, msg=lambda text, name=name: f"{name}: {text}")


def double(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


@pytest.mark.parametrize("kind", SCALES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("bias", [False, True])
def test_sums_of_every_spelling_are_fused(kind: type[Head], bias: bool) -> None:
    head, x = kind(bias=bias).double(), double(2, 4, 9, 7)
    before = run(head, x)
    weight_grads = [deform.weight.grad.clone() for deform in head.deform_layers]
    bias_grads = [deform.bias.grad.clone() for deform in head.deform_layers] if bias else []

    report = fuse_deform_convs(head)

    assert [one.convs for one in report.fused] == [tuple(f"deform_layers.{d}" for d in range(3))]
    assert report.fused[0].scale == pytest.approx(SCALES[kind])
    assert (report.replaced, report.skipped) == ([], [])
    assert not any(isinstance(module, (Theirs, DeformConv2d)) for module in head.modules())
    assert_same(before, run(head, x))
    layer = head.get_submodule(report.fused[0].layer)
    torch.testing.assert_close(layer.weight.grad, torch.stack(weight_grads))
    for grad in bias_grads:
        torch.testing.assert_close(layer.bias.grad * SCALES[kind], grad)


def test_authors_network() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Conv2d(3, 4, 1)
            self.head = AuthorsHead()

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.head(self.backbone(a), self.backbone(b))

    network, inputs = Network().double().eval(), (double(2, 3, 24, 18), double(2, 3, 24, 18))
    before, head = run(network, *inputs), network.head
    report = fuse_deform_convs(network)
    assert report.fused[0].parent == "head"
    assert report.fused[0].convs == tuple(f"head.deform_conv{n}" for n in range(1, 6))
    assert network.head is head
    assert isinstance(head, AuthorsHead)
    assert head.fused_deform_warp.dilations == tuple((d, d) for d in (3, 6, 12, 18, 24))
    assert_same(before, run(network, *inputs))
    assert not any(module.training for module in network.modules())
    assert "head.deform_conv1, head.deform_conv2" in str(report)
    assert "scale 0.2" in str(report)


def test_masks() -> None:
    head, inputs = MaskedHead(bias=False).double(), (double(2, 4, 9, 7), double(2, 9, 9, 7))
    before = run(head, *inputs)
    assert len(fuse_deform_convs(head).fused) == 1
    assert_same(before, run(head, *inputs))


def test_lopsided_kernels_strides_and_mixed_paddings() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            options: dict[str, Any] = {"kernel_size": (3, 2), "stride": (2, 1), "groups": 2}
            self.deform_a = Theirs(4, 6, padding=(1, 1), dilation=(1, 2), **options)
            self.deform_b = Theirs(4, 6, padding=(2, 3), dilation=(2, 6), bias=False, **options)

        def forward(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
            return self.deform_a(x, a) + self.deform_b(x, b)

    model = Mixed().double()
    inputs = (double(2, 4, 9, 8), double(2, 24, 5, 8), double(2, 24, 5, 8))
    before = run(model, *inputs)
    assert len(fuse_deform_convs(model).fused) == 1
    assert model.fused_deform_warp.padding == [(1, 1), (2, 3)]
    assert_same(before, run(model, *inputs))


def test_mode_dtype_and_requires_grad_are_kept() -> None:
    head = Head(bias=False).to(torch.bfloat16).eval()
    for deform in head.deform_layers:
        deform.requires_grad_(False)
    fuse_deform_convs(head)
    layer = head.fused_deform_warp
    assert layer.weight.dtype == torch.bfloat16
    assert not layer.weight.requires_grad
    assert not layer.training
    assert head.train().fused_deform_warp.training


def test_only_calls_of_one_input_are_fused() -> None:
    class Two(Head):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            a, b, c = self.deform_layers
            return a(x, self.offset_layers[0](x)) + b(y, self.offset_layers[1](x)) + c(x, self.offset_layers[2](y))

    head, inputs = Two().double(), (double(1, 4, 9, 7), double(1, 4, 9, 7))
    before = run(head, *inputs)
    report = fuse_deform_convs(head)
    assert [one.convs for one in report.fused] == [("deform_layers.0", "deform_layers.2")]
    assert report.replaced == ["deform_layers.1"]
    assert isinstance(head.get_submodule("deform_layers.1"), DeformConv2d)
    assert_same(before, run(head, *inputs))


def test_fused_model_can_be_copied_pickled_and_fused_again() -> None:
    x = double(1, 4, 9, 7)
    model = nn.Sequential(PicklableHead(bias=False).double())
    fuse_deform_convs(model)
    expected = model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(x), expected)
        other[0].fused_deform_warp.weight.data.zero_()
        assert not other(x).any()
        assert fuse_deform_convs(other) == deformwarp.FusionReport()
    torch.testing.assert_close(model(x), expected)


class PicklableHead(Head):
    pass


def test_fused_model_compiles_in_one_graph() -> None:
    head, x = LoopHead(bias=False), torch.rand(1, 4, 9, 7)
    expected = head(x)
    fuse_deform_convs(head)
    torch.testing.assert_close(torch.compile(head, fullgraph=True, backend="eager")(x), expected)
    torch.testing.assert_close(torch.export.export(head, (x,)).module()(x), expected)


# ---- what a trace would change: not fused, replaced one by one, same numbers


class BranchingHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        results = self.results(x)
        return sum(results) if x.sum() > 0 else sum(results[1:])


class TrainingHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        return sum(self.results(x)) if self.training else sum(self.results(x)[:2])


class OptionalHead(Head):
    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        out = sum(self.results(x))
        return out if residual is None else out + residual


class NoGradHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            frozen = x * 1
        return sum(self.results(x)) + frozen


class RememberingHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        self.last = sum(self.results(x))
        return self.last


class ConstantHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        return sum(self.results(x)) + torch.ones(1, dtype=torch.float64)


class InPlaceHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        x = x * 1
        first = self.deform_layers[0](x, self.offset_layers[0](x))
        x.mul_(2)
        return (
            first
            + self.deform_layers[1](x, self.offset_layers[1](x))
            + self.deform_layers[2](x, self.offset_layers[2](x))
        )


class ChangingHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        kept = x * 1
        out = kept.view_as(kept)
        for result in self.results(x):
            out += result
        return out * kept


class OnceMoreHead(Head):
    def forward(self, x: Tensor) -> Tensor:
        return sum(self.results(x)) + self.deform_layers[0](2 * x, self.offset_layers[0](x))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (BranchingHead, "TraceError"),
        (TrainingHead, "training or evaluation"),
        (OptionalHead, "whether residual is given"),
        (NoGradHead, "switches gradients"),
        (RememberingHead, r"sets attributes \(last\)"),
        (ConstantHead, "makes tensors"),
        (ChangingHead, "changed in place"),
        (OnceMoreHead, "more than once, and not always with the same others"),
    ],
)
def test_what_a_trace_would_freeze_is_replaced_only(kind: type[Head], reason: str) -> None:
    head, x = kind().double(), double(1, 4, 9, 7)
    before, keys = run(head, x), dict(head.named_parameters())
    vars(head).pop("last", None)
    attributes = set(vars(head))

    report = fuse_deform_convs(head)

    assert report.fused == []
    assert report.replaced == [f"deform_layers.{d}" for d in range(3)]
    assert any("not fused" in one.reason for one in report.skipped)
    assert re.search(reason, str(report)), str(report)
    assert set(vars(head)) == attributes
    assert type(head) is kind
    after = dict(head.named_parameters())
    assert after.keys() == keys.keys()
    assert all(after[name] is keys[name] for name in keys)
    assert_same(before, run(head, x))


def test_calls_are_not_moved_past_a_change_of_their_input() -> None:
    head, x = InPlaceHead().double().requires_grad_(False), double(1, 4, 9, 7)
    before = head(x)
    report = fuse_deform_convs(head)
    assert report.fused == []
    assert "changed in place" in str(report)
    torch.testing.assert_close(head(x), before)


def test_optional_arguments_that_change_nothing_do_not_prevent_fusing() -> None:
    class Scaled(Head):
        def forward(self, x: Tensor, factor: float = 3.0) -> Tensor:
            return factor * sum(self.results(x))

    head, x = Scaled().double(), double(1, 4, 9, 7)
    before = head(x), head(x, 2.0)
    assert len(fuse_deform_convs(head).fused) == 1
    torch.testing.assert_close(head(x), before[0])
    torch.testing.assert_close(head(x, factor=2.0), before[1])


# ---- one by one


class Chain(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.offset, self.conv = nn.Conv2d(4, 18, 3, padding=1), conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x, self.offset(x))


def test_replacement_keeps_parameters_optimiser_and_state_dict() -> None:
    model, x = Chain(Theirs(4, 4, 3, padding=1)).double().eval(), double(1, 4, 9, 7)
    state, parameters, before = copy.deepcopy(model.state_dict()), list(model.parameters()), run(model, x)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    random_state = torch.get_rng_state()
    assert fuse_deform_convs(model).replaced == ["conv"]
    assert torch.equal(torch.get_rng_state(), random_state)
    assert isinstance(model.conv, DeformConv2d)
    assert not model.conv.training
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert_same(before, run(model, x))
    optimiser.step()
    assert not torch.equal(model.conv.weight, state["conv.weight"])
    model.load_state_dict(state)
    torch.testing.assert_close(model(x), before[0])


def test_a_convolution_held_twice_stays_one() -> None:
    conv = Theirs(4, 4, 3, padding=1)
    model = nn.ModuleDict({"a": Chain(conv), "b": Chain(conv)})
    fuse_deform_convs(model)
    assert isinstance(model["a"].conv, DeformConv2d)
    assert model["a"].conv is model["b"].conv


def test_shared_parameters_are_not_copied_apart() -> None:
    head = Head(bias=False)
    head.deform_layers[1].weight = head.deform_layers[0].weight
    report = fuse_deform_convs(head)
    assert report.fused == []
    assert "shared with another module" in str(report)
    assert head.deform_layers[1].weight is head.deform_layers[0].weight


class Own(Theirs):
    def forward(self, input: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        return 2 * super().forward(input, offset, mask)


def hooked() -> nn.Module:
    conv = Theirs(4, 4, 3, padding=1)
    conv.register_forward_hook(lambda module, arguments, output: output + 1)
    return conv


def parametrised() -> nn.Module:
    return nn.utils.parametrizations.weight_norm(Theirs(4, 4, 3, padding=1))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (hooked, "hooks"),
        (parametrised, "parametrised"),
        (lambda: Own(4, 4, 3, padding=1), "forward of its own"),
    ],
)
def test_what_cannot_be_replaced_stays_with_a_reason(make: Any, reason: str) -> None:
    conv, x = make(), torch.rand(1, 4, 9, 7)
    model = Chain(conv)
    before = model(x)
    report = fuse_deform_convs(model)
    assert model.conv is conv
    assert [one.name for one in report.skipped] == ["conv"]
    assert reason in report.skipped[0].reason
    assert torch.equal(model(x), before)


def test_a_model_that_is_itself_a_deformable_convolution() -> None:
    report = fuse_deform_convs(Theirs(4, 4, 3))
    assert report.skipped[0].name == ""
    assert "the model itself: left as it is: it is the model itself" in str(report)


def test_models_without_deformable_convolutions() -> None:
    assert str(fuse_deform_convs(nn.Conv2d(3, 3, 1))).startswith("fused: no sum")
    with pytest.raises(TypeError, match=r"model: is a list, but should be a torch\.nn\.Module"):
        fuse_deform_convs([Theirs(4, 4, 3)])  # type: ignore[arg-type]


# ---- mmcv is not installed: classes with its names, attributes and signatures


def mmcv_class(name: str, **members: Any) -> type[nn.Module]:
    def init(self: Any, in_channels: int, out_channels: int, kernel_size: int, **options: Any) -> None:
        nn.Module.__init__(self)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = (kernel_size, kernel_size)
        for key, default in (("stride", 1), ("padding", 0), ("dilation", 1)):
            setattr(self, key, (options.get(key, default),) * 2)
        self.groups = options.get("groups", 1)
        self.deform_groups = options.get("deform_groups", 1)
        self.weight = nn.Parameter(torch.rand(out_channels, in_channels // self.groups, kernel_size, kernel_size))
        if name.startswith("Modulated"):
            self.bias = nn.Parameter(torch.rand(out_channels))

    def forward(self: Any, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        return torchvision.ops.deform_conv2d(
            x, offset, self.weight, getattr(self, "bias", None), self.stride, self.padding, self.dilation, mask
        )

    namespace = {"__module__": "mmcv.ops.deform_conv", "__init__": init, "forward": forward, **members}
    return type(name, (nn.Module,), namespace)


MmcvDeformConv2d = mmcv_class("DeformConv2d")
MmcvModulated = mmcv_class("ModulatedDeformConv2d")


def pack(base: type[nn.Module]) -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        return base.forward(self, x, self.conv_offset(x))

    kind = type(f"{base.__name__}Pack", (base,), {"__module__": "mmcv.ops.deform_conv", "forward": forward})
    packed = kind(4, 4, 3, padding=1)
    packed.conv_offset = nn.Conv2d(4, 18, 3, padding=1)
    return packed


def test_mmcv_is_read() -> None:
    spec = describe_deform_conv(MmcvDeformConv2d(6, 4, 3, padding=2, dilation=2, groups=2, deform_groups=3), "conv")
    assert (spec.channels, spec.out_channels, spec.groups, spec.offset_groups, spec.bias) == (6, 4, 2, 3, None)
    assert (spec.kernel_size, spec.stride, spec.padding, spec.dilation) == ((3, 3), (1, 1), (2, 2), (2, 2))
    modulated = MmcvModulated(4, 4, 3)
    assert describe_deform_conv(modulated, "conv").bias is modulated.bias


def test_old_mmcv_says_deformable_groups() -> None:
    conv = MmcvDeformConv2d(4, 4, 3)
    conv.deformable_groups = 2
    del conv.deform_groups
    assert describe_deform_conv(conv, "conv").offset_groups == 2


@pytest.mark.parametrize("kind", [MmcvDeformConv2d, MmcvModulated])
def test_mmcv_is_replaced(kind: type[nn.Module]) -> None:
    model, x = Chain(kind(4, 4, 3, padding=1)).double(), double(1, 4, 9, 7)
    before, keys = run(model, x), list(model.state_dict())
    assert fuse_deform_convs(model).replaced == ["conv"]
    assert list(model.state_dict()) == keys
    assert_same(before, run(model, x))


def test_mmcv_is_fused() -> None:
    head, x = Head().double(), double(1, 4, 9, 7)
    head.deform_layers = nn.ModuleList(MmcvModulated(4, 4, 3, padding=d, dilation=d).double() for d in DILATIONS)
    before = run(head, x)
    assert len(fuse_deform_convs(head).fused) == 1
    assert head.fused_deform_warp.offset_groups == 1
    assert_same(before, run(head, x))


@pytest.mark.parametrize("base", [MmcvDeformConv2d, MmcvModulated])
def test_packs_are_refused(base: type[nn.Module]) -> None:
    packed = pack(base)
    with pytest.raises(TypeError, match=r"conv: is a \w+Pack, which predicts its own offsets inside"):
        describe_deform_conv(packed, "conv")
    model = nn.Sequential(packed)
    report = fuse_deform_convs(model)
    assert model[0] is packed
    assert "predicts its own offsets" in report.skipped[0].reason


# ---- from_deform_convs


def test_from_deform_convs_takes_over_weights_and_biases() -> None:
    convs = [conv.double() for conv in convs_of()]
    x, offsets = double(1, 4, 9, 7), [double(1, 18, 9, 7) for _ in convs]
    layer = FusedDeformWarp.from_deform_convs(convs, scale=0.5)
    expected = 0.5 * sum(conv(x, offset) for conv, offset in zip(convs, offsets, strict=True))
    torch.testing.assert_close(layer(x, offsets), expected)
    assert layer.weight.data_ptr() != convs[0].weight.data_ptr()


@pytest.mark.parametrize(
    ("convs", "error", "message"),
    [
        ([], ValueError, "convs: is empty, but should hold at least one"),
        ([nn.Conv2d(4, 4, 3)], TypeError, r"convs\[0\]: is a Conv2d, but should be a DeformConv2d of torchvision"),
        ([Theirs(4, 4, 3), pack(MmcvDeformConv2d)], TypeError, r"convs\[1\]: is a DeformConv2dPack"),
        ([Theirs(4, 4, 3), Theirs(2, 4, 3)], ValueError, r"convs\[1\]: channels is 2, but should be 4"),
        ([Theirs(4, 4, 3), Theirs(4, 2, 3)], ValueError, r"convs\[1\]: out_channels is 2, but should be 4"),
        (
            [Theirs(4, 4, 3), Theirs(4, 4, 5)],
            ValueError,
            r"convs\[1\]: kernel_size is \(5, 5\), but should be \(3, 3\)",
        ),
        ([Theirs(4, 4, 3), Theirs(4, 4, 3, stride=2)], ValueError, r"convs\[1\]: stride is \(2, 2\)"),
        ([Theirs(4, 4, 3), Theirs(4, 4, 3, groups=2)], ValueError, r"convs\[1\]: groups is 2, but should be 1"),
    ],
)
def test_from_deform_convs_refuses(convs: list[nn.Module], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FusedDeformWarp.from_deform_convs(convs)


def test_neither_torchvision_nor_mmcv_is_imported() -> None:
    code = "import sys, deformwarp; sys.exit(any(name in sys.modules for name in ('torchvision', 'mmcv')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_from_deform_convs_takes_the_offset_groups_that_torchvision_leaves_open() -> None:
    convs = [torchvision.ops.DeformConv2d(4, 4, 3, padding=d, dilation=d) for d in (1, 2)]
    assert FusedDeformWarp.from_deform_convs(convs, offset_groups=2).offset_channels == 2 * 2 * 9
    assert FusedDeformWarp.from_deform_convs(convs).offset_channels == 2 * 4 * 9
