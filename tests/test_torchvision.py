"""torchvision's deformable convolution, the sum of its five calls and the ordinary convolution are special cases."""

from __future__ import annotations

import pytest
import torch
import torchvision
from problems import BY_NAME, CASES, Case, assert_near, forward_and_gradients, problem_of
from torch import Tensor
from torch.nn.functional import conv2d

import deformwarp

SINGLE = [case for case in CASES if len(case.dilations) == 1]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.usefixtures("backend")
def test_the_fused_op_equals_torchvisions_calls_and_their_sum(case: Case, dtype: torch.dtype) -> None:
    problem = problem_of(case, dtype)
    assert_near(forward_and_gradients(problem), forward_and_gradients(problem, "by_torchvision"), ulps=128)


@pytest.mark.parametrize("case", SINGLE, ids=str)
@pytest.mark.usefixtures("backend")
def test_deform_conv2d_equals_torchvisions(case: Case) -> None:
    problem = problem_of(case)
    arguments = (problem.input, problem.offsets[0], problem.weight[0], problem.bias, case.stride, case.paddings[0])
    arguments = (*arguments, case.dilations[0], problem.masks[0] if problem.masks else None)
    tensors = [argument.requires_grad_() for argument in map(_copy, arguments) if isinstance(argument, Tensor)]
    names = [str(number) for number in range(len(tensors))]

    def results(function: object) -> dict[str, Tensor]:
        remaining = iter(tensors)
        output = function(*(next(remaining) if isinstance(a, Tensor) else a for a in arguments))  # type: ignore[operator]
        grads = torch.autograd.grad(output, tensors, problem.grad_output)
        return {"output": output.detach(), **dict(zip(names, grads, strict=True))}

    assert_near(results(deformwarp.deform_conv2d), results(torchvision.ops.deform_conv2d))


def _copy(value: object) -> object:
    return value.clone() if isinstance(value, Tensor) else value


def test_deform_conv2d_has_torchvisions_signature() -> None:
    import inspect

    ours = inspect.signature(deformwarp.deform_conv2d).parameters
    theirs = inspect.signature(torchvision.ops.deform_conv2d).parameters
    assert [(p.name, p.default, p.kind) for p in ours.values()] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]


@pytest.mark.parametrize("name", ["lopsided", "masks_bias_groups", "shared_lopsided", "shared_cut_by_weight_groups"])
@pytest.mark.usefixtures("backend")
def test_zero_offsets_equal_the_sum_of_conv2d(name: str) -> None:
    case = BY_NAME[name]
    problem = problem_of(case).map(lambda tensor: tensor.detach())
    problem.masks = None
    problem.offsets = [torch.zeros_like(offset) for offset in problem.offsets]

    def convolutions() -> Tensor:
        leaves = problem.leaves()
        total = sum(
            conv2d(problem.input, weight, None, case.stride, padding, dilation, case.groups)
            for weight, padding, dilation in zip(problem.weight, case.paddings, case.dilations, strict=True)
        )
        return case.scale * total + (problem.bias.reshape(-1, 1, 1) if "bias" in leaves else 0)

    wanted = [tensor.requires_grad_() for tensor in (problem.input, problem.weight, problem.bias) if tensor is not None]
    names = [str(number) for number in range(len(wanted))]

    def results(output: Tensor) -> dict[str, Tensor]:
        grads = torch.autograd.grad(output, wanted, problem.grad_output)
        return {"output": output.detach(), **dict(zip(names, grads, strict=True))}

    assert_near(results(problem.warp()), results(convolutions()))


@pytest.mark.usefixtures("backend")
def test_same_padding_keeps_the_size_and_equals_the_padding_it_stands_for() -> None:
    case = Case("same", 3, 2, (6, 8), kernel=(5, 3), dilations=((1, 2), (2, 1)))
    problem = problem_of(case)
    output = deformwarp.fused_deform_warp(
        problem.input, problem.offsets, problem.weight, dilations=[(1, 2), (2, 1)], padding="same"
    )
    assert output.shape[2:] == problem.input.shape[2:]
    assert torch.equal(output, problem.warp())


@pytest.mark.parametrize("padding", [2, (2, 2), [2, 2, 2], [(2, 2), 2, (2, 2)]], ids=repr)
def test_padding_is_one_for_all_branches_or_one_for_each(padding: object) -> None:
    problem = problem_of(Case("padded", 2, 2, dilations=((1, 1),) * 3, padding=((2, 2),) * 3))
    output = deformwarp.fused_deform_warp(
        problem.input,
        problem.offsets,
        problem.weight,
        dilations=[1, 1, 1],
        padding=padding,  # type: ignore[arg-type]
    )
    assert torch.equal(output, problem.warp())


def test_two_plain_ints_are_one_pair_of_paddings() -> None:
    problem = problem_of(Case("paired", 2, 2, dilations=((1, 1),) * 2, padding=((2, 1),) * 2))
    output = deformwarp.fused_deform_warp(
        problem.input, problem.offsets, problem.weight, dilations=[1, 1], padding=(2, 1)
    )
    assert torch.equal(output, problem.warp())
