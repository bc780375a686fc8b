"""The operators keep torch.library's contracts, so that torch.compile and torch.export see through them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from problems import BY_NAME, Case, Problem, assert_near, forward_and_gradients, problem_of
from torch import Tensor, nn

import deformwarp
from deformwarp import ops

CASES = (BY_NAME["masks_bias_groups"], BY_NAME["shared"])
cases = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def _geometry(case: Case) -> list[Any]:
    flat = [[number for pair in pairs for number in pair] for pairs in (case.paddings, case.dilations)]
    return [list(case.stride), *flat, case.scale]


# Small, because the backward is checked together with its own, symbolically traced, derivative.
TINY = (
    Case("planar", 2, 2, (4, 5), 1, (2, 1), padding=((0, 0),), masked=True),
    Case("shared", 4, 2, (4, 5), 1, (1, 2), padding=((0, 0),), offset_groups=2),
)
tiny_cases = pytest.mark.parametrize("case", TINY, ids=str)


@tiny_cases
@pytest.mark.slow
def test_opcheck_warp(case: Case) -> None:
    problem = problem_of(case, torch.float32).map(lambda tensor: tensor.clone().requires_grad_())
    arguments = (problem.input, problem.offsets, problem.masks or [], problem.weight, problem.bias, *_geometry(case))
    torch.library.opcheck(torch.ops.deformwarp.warp, arguments)


@tiny_cases
@pytest.mark.slow
def test_opcheck_warp_backward(case: Case) -> None:
    problem = problem_of(case, torch.float32).map(lambda tensor: tensor.clone().requires_grad_())
    arguments = (problem.grad_output, problem.input, problem.offsets, problem.masks or [], problem.weight)
    torch.library.opcheck(torch.ops.deformwarp.warp_backward, (*arguments, *_geometry(case), *[True] * 4))


BACKWARDS = {"kernels": torch.ops.deformwarp.warp_backward, "fallback": ops.warp_backward_by_formula}


@pytest.mark.parametrize("backward", BACKWARDS.values(), ids=BACKWARDS.keys())
@pytest.mark.parametrize("unwanted", range(4), ids=["input", "offsets", "masks", "weight"])
def test_fake_backward_has_the_shapes_and_strides_of_the_real_one(unwanted: int, backward: Callable[..., Any]) -> None:
    case = BY_NAME["many_taps"]
    problem = problem_of(case, torch.float32)
    arguments = (problem.grad_output, problem.input, problem.offsets, problem.masks, problem.weight, *_geometry(case))
    wanted = [number != unwanted for number in range(4)]
    on_meta = torch.utils._pytree.tree_map_only(Tensor, lambda tensor: tensor.to("meta"), arguments)
    real = backward(*arguments, *wanted)
    fake = torch.ops.deformwarp.warp_backward(*on_meta, *wanted)
    flat = [torch.utils._pytree.tree_leaves(result) for result in (real, fake)]
    assert [tensor.shape for tensor in flat[0]] == [tensor.shape for tensor in flat[1]]
    assert [tensor.stride() for tensor in flat[0]] == [tensor.stride() for tensor in flat[1]]


def test_a_meta_problem_has_the_output_shape() -> None:
    case = BY_NAME["shared_lopsided"]
    output = problem_of(case).map(lambda tensor: tensor.to("meta")).warp()
    assert output.is_meta
    assert output.shape == (case.batch, case.out_channels, *case.out_size)


def _compiled(problem: Problem, **options: Any) -> dict[str, Tensor]:
    compiled = torch.compile(Problem.warp, fullgraph=True, **options)
    leaves = problem.map(lambda tensor: tensor.detach().clone())
    targets = leaves.leaves()
    for leaf in targets.values():
        leaf.requires_grad_()
    output = compiled(leaves)
    return {
        "output": output.detach(),
        **dict(zip(targets, torch.autograd.grad(output, list(targets.values()), leaves.grad_output), strict=True)),
    }


@cases
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.slow
def test_compile_forward_and_backward(case: Case, dynamic: bool) -> None:
    problem = problem_of(case, torch.float32)
    results = _compiled(problem, dynamic=dynamic, backend="aot_eager")
    assert_near(results, forward_and_gradients(problem), ulps=16)


@pytest.mark.slow
def test_compile_by_inductor() -> None:
    problem = problem_of(CASES[0], torch.float32)
    assert_near(_compiled(problem), forward_and_gradients(problem), ulps=16)


@pytest.mark.slow
def test_one_compilation_serves_every_batch_and_size() -> None:
    compilations = 0

    def count(graph: torch.fx.GraphModule, _: Any) -> Any:
        nonlocal compilations
        compilations += 1
        return graph.forward

    @torch.compile(fullgraph=True, dynamic=True, backend=count)
    def warp(input: Tensor, offsets: list[Tensor], weight: Tensor) -> Tensor:
        return deformwarp.fused_deform_warp(input, offsets, weight, dilations=(1, 2))

    weight = torch.rand(2, 3, 3, 3, 3)
    # Equal sizes at the first call would be taken for one and the same: the batch is neither D nor C.
    for batch, height, width in ((5, 6, 7), (3, 9, 8), (4, 12, 10)):
        input, offsets = torch.rand(batch, 3, height, width), torch.randn(2, batch, 18, height, width).unbind()
        expected = deformwarp.fused_deform_warp(input, offsets, weight, dilations=(1, 2))
        assert torch.equal(warp(input, list(offsets), weight), expected)
    assert compilations == 1


class _Head(nn.Module):
    """What users export: a convolution that predicts the offsets, and the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.warp = deformwarp.FusedDeformWarp(3, dilations=(1, 2), bias=True)
        self.offsets = nn.Conv2d(3, 2 * self.warp.offset_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.warp(x, self.offsets(x).chunk(2, 1))


class _PaddedBySize(nn.Module):
    def forward(self, x: Tensor, offsets: list[Tensor], weight: Tensor) -> Tensor:
        padding = (x.shape[2] // 6, x.shape[3] // 3)
        return deformwarp.fused_deform_warp(x, offsets, weight, dilations=(1, 1), padding=padding)


def test_a_pair_of_dynamic_sizes_is_a_pair() -> None:
    model, auto = _PaddedBySize(), {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    arguments = (torch.rand(1, 1, 6, 6), [torch.randn(1, 18, 6, 8) for _ in range(2)], torch.rand(2, 1, 1, 3, 3))
    program = torch.export.export(model, arguments, dynamic_shapes=(auto, [auto, auto], None), strict=False)
    assert torch.equal(program.module()(*arguments), model(*arguments))


DYNAMIC = {
    "batch": {0: torch.export.Dim("batch", min=1, max=64)},
    "batch_and_size": {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},
}


@pytest.mark.parametrize("dynamic", DYNAMIC)
@pytest.mark.slow
def test_an_export_with_dynamic_shapes_saves_loads_and_runs(dynamic: str) -> None:
    head = _Head().eval()
    program = torch.export.export(head, (torch.rand(2, 3, 8, 7),), dynamic_shapes={"x": DYNAMIC[dynamic]})
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    loaded = torch.export.load(buffer).module()
    for batch, height, width in [(2, 8, 7), (5, 8, 7), *([(3, 9, 12)] if "size" in dynamic else [])]:
        x = torch.rand(batch, 3, height, width)
        torch.testing.assert_close(loaded(x), head(x))


@pytest.mark.filterwarnings("ignore:`?torch.jit")
def test_a_traced_module_has_the_operator_and_its_gradients() -> None:
    head = _Head()
    x = torch.rand(2, 3, 8, 7)
    traced = torch.jit.trace(head, (x,))
    nodes = [node.kind() for node in traced.inlined_graph.nodes()]
    assert nodes.count("deformwarp::warp") == 1
    torch.testing.assert_close(traced(x), head(x))
    assert traced(x).requires_grad


@pytest.mark.slow
def test_bad_input_raises_while_compiling() -> None:
    compiled = torch.compile(deformwarp.deform_conv2d, backend="aot_eager", fullgraph=True)
    with pytest.raises(Exception, match=r"offset: shape is \[1, 18, 4, 4\], but should be \[1, 18, 3, 3\]"):
        compiled(torch.rand(1, 1, 5, 5), torch.rand(1, 18, 4, 4), torch.rand(1, 1, 3, 3))


# ---- the whole PoseWarper


def _posewarper() -> nn.Module:
    from posewarper_models import build_posewarper

    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 5, 3, stride=4, padding=1), nn.BatchNorm2d(5), nn.ReLU())
    model = build_posewarper(backbone, num_joints=5, num_blocks=1, channels=8, dilations=(1, 2, 3))
    for conv in model.warping.offset_convs:
        nn.init.normal_(conv.weight)
    return model.eval()


def _frames(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    return torch.rand(batch, 3, height, width), torch.rand(batch, 3, height, width)


# Neither equal to one another nor to any number of channels, which the compiler would take for more than a coincidence.
SIZES = ((2, 64, 48), (4, 96, 80), (6, 40, 56))


def _parameter_gradients(model: nn.Module, output: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(output.square().sum(), parameters), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["normal", "low"])
def test_posewarper_compiles_once_for_every_batch_and_size(memory: str) -> None:
    model, compilations = _posewarper(), 0
    model.warping.memory = memory

    def count(graph: torch.fx.GraphModule, _: Any) -> Any:
        nonlocal compilations
        compilations += 1
        return graph.forward

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=count)
    for size in SIZES:
        frames = _frames(*size)
        torch.testing.assert_close(compiled(*frames), model(*frames))
    assert compilations == 1
    gradients = _parameter_gradients(model, compiled(*frames))
    for name, expected in _parameter_gradients(model, model(*frames)).items():
        torch.testing.assert_close(gradients[name], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_posewarper_is_exported_saved_and_loaded() -> None:
    model, any_size = _posewarper(), DYNAMIC["batch_and_size"]
    program = torch.export.export(model, _frames(*SIZES[0]), dynamic_shapes=(any_size, any_size))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    loaded = torch.export.load(buffer).module()
    for size in SIZES:
        frames = _frames(*size)
        torch.testing.assert_close(loaded(*frames), model(*frames))
