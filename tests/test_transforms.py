"""The op under torch.func, forward-mode AD and autocast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from problems import BY_NAME, Case, Problem, assert_near, forward_and_gradients, problem_of
from torch import Tensor

import deformwarp

CASES = (
    BY_NAME["masks_bias_groups"],
    BY_NAME["shared_lopsided"],
    Case("plain", 2, 2, (4, 5), 2),
)
cases = pytest.mark.parametrize("case", CASES, ids=str)


def _tensors(problem: Problem) -> dict[str, Any]:
    """The arguments as one tree, for transforms."""
    tensors = {"input": problem.input, "offsets": problem.offsets, "weight": problem.weight}
    if problem.masks is not None:
        tensors["masks"] = problem.masks
    return tensors if problem.bias is None else tensors | {"bias": problem.bias}


def _warp(problem: Problem, tensors: dict[str, Any]) -> Tensor:
    case = problem.case
    return deformwarp.fused_deform_warp(
        **tensors, dilations=case.dilations, stride=case.stride, padding=case.paddings, scale=case.scale
    )


def _flat(tensors: dict[str, Any]) -> dict[str, Tensor]:
    flat = {}
    for name, value in tensors.items():
        flat |= {f"{name}[{d}]": one for d, one in enumerate(value)} if isinstance(value, list) else {name: value}
    return flat


@cases
@pytest.mark.usefixtures("backend")
def test_func_grad(case: Case) -> None:
    problem = problem_of(case)

    def loss(tensors: dict[str, Any]) -> Tensor:
        return (_warp(problem, tensors) * problem.grad_output).sum()

    grads = _flat(torch.func.grad(loss)(_tensors(problem)))
    expected = forward_and_gradients(problem)
    assert_near(grads, {name: expected[name] for name in grads})


@cases
@pytest.mark.usefixtures("backend")
def test_func_vjp_of_vjp(case: Case) -> None:
    problem = problem_of(case)

    def loss(input: Tensor) -> Tensor:
        return (_warp(problem, _tensors(problem) | {"input": input}) * problem.grad_output).sum()

    def by_weight(weight: Tensor) -> Tensor:
        def inner(input: Tensor) -> Tensor:
            return (_warp(problem, _tensors(problem) | {"input": input, "weight": weight}) * problem.grad_output).sum()

        return torch.func.grad(inner)(problem.input).square().sum()

    second = torch.func.grad(by_weight)(problem.weight)
    input, weight = problem.input.clone().requires_grad_(), problem.weight.clone().requires_grad_()
    output = _warp(problem, _tensors(problem) | {"input": input, "weight": weight})
    (first,) = torch.autograd.grad(output, input, problem.grad_output, create_graph=True)
    (expected,) = torch.autograd.grad(first.square().sum(), weight)
    assert_near({"weight": second}, {"weight": expected})


@cases
@pytest.mark.usefixtures("backend")
def test_vmap_over_every_argument(case: Case) -> None:
    problems = [problem_of(case), problem_of(case).map(lambda tensor: tensor + 0.01)]
    stacked = torch.utils._pytree.tree_map(lambda *parts: torch.stack(parts), *map(_tensors, problems))
    outputs = torch.func.vmap(lambda tensors: _warp(problems[0], tensors))(stacked)
    expected = torch.stack([problem.warp() for problem in problems])
    assert_near({"output": outputs}, {"output": expected})


@pytest.mark.parametrize("name", ["input", "offsets", "weight"])
@pytest.mark.usefixtures("backend")
def test_vmap_over_no_slices(name: str) -> None:
    problem = problem_of(CASES[0])
    none = torch.utils._pytree.tree_map(lambda one: one.new_empty(0, *one.shape), _tensors(problem)[name])

    def warp(one: Any) -> Tensor:
        return _warp(problem, _tensors(problem) | {name: one})

    expected = (0, *problem.grad_output.shape)
    assert torch.func.vmap(warp)(none).shape == expected
    grads = torch.func.vmap(torch.func.grad(lambda one: warp(one).sum()))(none)
    shapes = torch.utils._pytree.tree_map(lambda tensor: tensor.shape, (grads, none))
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("create_graph", [False, True], ids=["", "create_graph"])
@pytest.mark.usefixtures("backend")
def test_gradients_in_batches(create_graph: bool) -> None:
    leaves = problem_of(CASES[0]).map(lambda tensor: tensor.detach().requires_grad_())
    targets, output = list(leaves.leaves().values()), leaves.warp()
    many = torch.stack([leaves.grad_output.detach() * factor for factor in (1, 2, 3)])

    def gradients(grad_output: Tensor, batched: bool) -> tuple[Tensor, ...]:
        options = {"retain_graph": True, "create_graph": create_graph, "is_grads_batched": batched}
        return torch.autograd.grad(output, targets, grad_output, **options)

    together, alone = gradients(many, True), [gradients(one, False) for one in many]
    for number, grads in enumerate(together):
        assert_near({"grads": grads}, {"grads": torch.stack([one[number] for one in alone])})


@pytest.mark.parametrize("vectorize", [False, True], ids=["row_by_row", "vectorized"])
def test_jacobian(vectorize: bool) -> None:
    problem = problem_of(CASES[2])

    def warp(weight: Tensor) -> Tensor:
        return _warp(problem, _tensors(problem) | {"weight": weight})

    jacobian = torch.autograd.functional.jacobian(warp, problem.weight, vectorize=vectorize)
    assert_near({"jacobian": jacobian}, {"jacobian": torch.func.jacrev(warp)(problem.weight)})


@pytest.mark.parametrize("name", ["input", "weight"])
@pytest.mark.usefixtures("backend")
def test_vmap_over_one_argument(name: str) -> None:
    problem = problem_of(CASES[0])
    many = torch.stack([_tensors(problem)[name] * factor for factor in (1, 2, 3)], 1)
    outputs = torch.func.vmap(lambda one: _warp(problem, _tensors(problem) | {name: one}), in_dims=1)(many)
    for number in range(3):
        expected = _warp(problem, _tensors(problem) | {name: many[:, number]})
        assert_near({"output": outputs[number]}, {"output": expected})


@cases
@pytest.mark.usefixtures("backend")
def test_gradients_of_each_sample_by_vmap_of_grad(case: Case) -> None:
    problem = problem_of(case)
    tensors = _tensors(problem)
    shared = {name: tensors[name] for name in ("weight", "bias") if name in tensors}
    per_sample = {name: value for name, value in tensors.items() if name not in shared} | {"seed": problem.grad_output}

    def loss(shared: dict[str, Tensor], sample: dict[str, Any]) -> Tensor:
        batch = torch.utils._pytree.tree_map(lambda tensor: tensor.unsqueeze(0), sample)
        seed = batch.pop("seed")
        return (_warp(problem, shared | batch) * seed).sum()

    grads = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(shared, per_sample)
    for n in range(case.batch):
        expected = forward_and_gradients(problem.samples(n, n + 1))
        assert_near({name: grad[n] for name, grad in grads.items()}, {name: expected[name] for name in grads})


@pytest.mark.usefixtures("backend")
def test_functional_call() -> None:
    layer = deformwarp.FusedDeformWarp(2, dilations=(1, 2), bias=True)
    x, offsets = torch.rand(1, 2, 5, 5), [torch.rand(1, layer.offset_channels, 5, 5) for _ in range(2)]
    parameters = {name: parameter.detach() * 3 + 1 for name, parameter in layer.named_parameters()}
    output = torch.func.functional_call(layer, parameters, (x, offsets))
    expected = deformwarp.fused_deform_warp(x, offsets, parameters["weight"], parameters["bias"], dilations=(1, 2))
    assert torch.equal(output, expected)


def _jvp(problem: Problem) -> tuple[Tensor, Tensor]:
    def of_input(input: Tensor) -> Tensor:
        return _warp(problem, _tensors(problem) | {"input": input})

    return torch.func.jvp(of_input, (problem.input,), (torch.ones_like(problem.input),))


@pytest.mark.usefixtures("kernels")
def test_forward_mode_raises_clearly() -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)jvp|forward.mode"):
        _jvp(problem_of(CASES[2]))


@pytest.mark.parametrize("name", ["input", "weight", "bias", "offsets", "masks"])
@pytest.mark.usefixtures("kernels")
def test_dual_tensors_raise_clearly(name: str) -> None:
    problem = problem_of(CASES[0])
    tensors, forward = _tensors(problem), torch.autograd.forward_ad
    with forward.dual_level():
        duals = torch.utils._pytree.tree_map(lambda one: forward.make_dual(one, torch.ones_like(one)), tensors[name])
        with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)jvp|forward.mode"):
            _warp(problem, tensors | {name: duals})


def test_forward_mode_works_by_the_reference() -> None:
    problem = problem_of(CASES[2])
    with deformwarp.use_backend("reference"):
        output, tangent = _jvp(problem)
        expected = _warp(problem, _tensors(problem) | {"input": torch.ones_like(problem.input)})
    assert_near({"output": output}, {"output": problem.warp()})
    assert_near({"tangent": tangent}, {"tangent": expected})


@pytest.mark.parametrize("offset_dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("autocast_dtype", [torch.float16, torch.bfloat16], ids=["to_float16", "to_bfloat16"])
@pytest.mark.usefixtures("backend")
def test_under_autocast_the_offsets_decide_the_dtype(offset_dtype: torch.dtype, autocast_dtype: torch.dtype) -> None:
    problem = problem_of(CASES[0], torch.float32).map(lambda tensor: tensor.detach())
    problem.offsets = [offset.to(offset_dtype) for offset in problem.offsets]
    with torch.autocast(torch.get_default_device().type, autocast_dtype):
        output = problem.warp()
    assert output.dtype == offset_dtype
    assert torch.equal(output, problem.to(offset_dtype).warp())


@pytest.mark.usefixtures("backend")
def test_under_autocast_the_widest_offsets_decide() -> None:
    problem = problem_of(CASES[0], torch.bfloat16).map(lambda tensor: tensor.detach())
    problem.offsets = [problem.offsets[0].float() + 1e-4, *problem.offsets[1:]]
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        output = problem.warp()
    assert torch.equal(output, problem.to(torch.float32).warp())


@pytest.mark.usefixtures("backend")
def test_gradients_under_autocast_have_the_leaves_dtypes() -> None:
    problem = problem_of(CASES[0], torch.float32).map(lambda tensor: tensor.detach())
    problem.offsets = [offset.bfloat16() for offset in problem.offsets]
    leaves = [leaf.requires_grad_() for leaf in problem.leaves().values()]
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        output = problem.warp()
    output.sum().backward()
    assert [leaf.grad.dtype for leaf in leaves] == [leaf.dtype for leaf in leaves]


def test_mixed_dtypes_are_refused_outside_autocast() -> None:
    problem = problem_of(CASES[0], torch.float32).map(lambda tensor: tensor.detach())
    problem.offsets = [offset.bfloat16() for offset in problem.offsets]
    with pytest.raises(TypeError, match=r"offsets\[0\]: dtype is torch.bfloat16"):
        problem.warp()
