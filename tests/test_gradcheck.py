"""First and second derivatives against finite differences, in float64 and away from kinks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from problems import Case, Problem, problem_of
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

TINY = (
    Case("planar", 2, 3, (4, 3), 1, dilations=((1, 1), (2, 1)), masked=True, biased=True, scale=0.5),
    Case("planar_groups", 2, 2, (3, 4), 2, (2, 2), padding=((1, 1),), groups=2, stride=(2, 1)),
    Case("shared", 4, 2, (3, 4), 1, offset_groups=2, dilations=((1, 1), (1, 2)), masked=True, biased=True),
    Case("shared_cut", 6, 3, (3, 3), 1, (2, 1), padding=((0, 0),), groups=3, offset_groups=2),
)
cases = pytest.mark.parametrize("case", TINY, ids=str)


def _function(case: Case) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    """The warp as a function of its leaves, fractions of positions in [0.1, 0.9]."""
    problem = problem_of(case, margin=0.1)
    leaves = tuple(leaf.clone().requires_grad_() for leaf in problem.leaves().values())
    names = list(problem.leaves())

    def warp(*values: Tensor) -> Tensor:
        by_name = dict(zip(names, values, strict=True))
        return _with(problem, by_name).warp()

    return warp, leaves


def _with(problem: Problem, leaves: dict[str, Tensor]) -> Problem:
    branches = range(len(problem.offsets))
    return replace(
        problem,
        input=leaves["input"],
        offsets=[leaves[f"offsets[{d}]"] for d in branches],
        masks=None if problem.masks is None else [leaves[f"masks[{d}]"] for d in branches],
        weight=leaves["weight"],
        bias=leaves.get("bias"),
    )


@cases
@pytest.mark.usefixtures("backend")
def test_gradcheck(case: Case) -> None:
    warp, leaves = _function(case)
    assert gradcheck(warp, leaves, fast_mode=True)


@cases
@pytest.mark.usefixtures("backend")
@pytest.mark.slow
def test_gradgradcheck(case: Case) -> None:
    warp, leaves = _function(case)
    assert gradgradcheck(warp, leaves, fast_mode=True)


@pytest.mark.usefixtures("kernels")
def test_second_derivatives_by_some_leaves_only() -> None:
    warp, leaves = _function(TINY[0])
    for number in range(len(leaves)):
        fixed = [leaf.detach() for leaf in leaves]

        def of_one(value: Tensor, number: int = number, fixed: list[Tensor] = fixed) -> Tensor:
            return warp(*fixed[:number], value, *fixed[number + 1 :])

        assert gradgradcheck(of_one, (leaves[number],), fast_mode=True)


@pytest.mark.usefixtures("kernels")
def test_a_gradient_penalty_trains() -> None:
    warp, leaves = _function(TINY[2])
    (by_input,) = torch.autograd.grad(warp(*leaves).sum(), leaves[0], create_graph=True)
    by_input.square().sum().backward()
    assert all(leaf.grad is not None and leaf.grad.any() for leaf in leaves[1:-1])
