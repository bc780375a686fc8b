"""A valid problem: its output and gradients are the reference's."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import cycle
from random import Random

import torch
from problems import Expectation, Problem, assert_within, forward_and_gradients, problem_of
from torch import Tensor

import deformwarp
from deformwarp.reference import arithmetic_dtype
from fuzz.drawing import Trial
from fuzz.memory import fenced_copy

# How many times eager PyTorch's error a result may have. The accuracy tests count roundings (4 times is allowed there,
# of cases that are known); here wrong, missing and foreign numbers are looked for, in any number of trials: they are
# off by as much as the numbers are large.
BLUNDER = 64

# Exact in every dtype. Near -1 and the far side they lie on the borders of the image.
SPECIAL = (0.0, 1.0, -1.0, -2.0, 3.0, 0.5, -0.5, 8.0, -16.0, 60000.0, -60000.0, math.inf, -math.inf, math.nan)


def _with_special_offsets(offset: Tensor, share: float, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    special = torch.tensor(SPECIAL, dtype=offset.dtype)
    chosen = special[torch.randint(len(SPECIAL), offset.shape, generator=random)]
    return torch.where(torch.rand(offset.shape, generator=random) < share, chosen, offset)


def problem(trial: Trial) -> Problem:
    """The tensors of a trial, fenced and in its layouts."""
    made = problem_of(trial.case, trial.dtype)
    random, layouts = Random(trial.number), cycle(trial.layouts)
    offsets = [_with_special_offsets(o, trial.special, trial.number + d) for d, o in enumerate(made.offsets)]
    return replace(made, offsets=offsets).map(
        lambda tensor: fenced_copy(tensor, next(layouts), at_the_end=random.random() < 0.7)
    )


def _sums(exact: Problem) -> dict[str, float]:
    """How large the sums behind every result could be without cancellation."""
    large = exact.map(torch.abs)
    large.offsets = exact.offsets
    large.masks = large.masks or [torch.ones_like(offset[:, ::2]) for offset in exact.offsets]
    large.input = torch.full_like(large.input, large.input.max().item() if large.input.numel() else 0.0)
    large.case = replace(large.case, scale=abs(large.case.scale))
    sums = {name: _largest(tensor) for name, tensor in forward_and_gradients(large, "by_formula").items()}
    for d, mask in enumerate(large.masks):  # two neighbouring pixels differ by at most twice the largest
        sums[f"offsets[{d}]"] = 2 * _largest(mask) * sums[f"masks[{d}]"]
    return sums


def _largest(tensor: Tensor) -> float:
    return tensor.abs().max().item() if tensor.numel() else 0.0


def expected(given: Problem, dtype: torch.dtype) -> dict[str, Expectation]:
    """Output and gradients in float64 on the very numbers of a problem, and the errors allowed."""
    dense = given.map(Tensor.contiguous)
    exact = dense.to(torch.float64)
    eager_dtype = torch.float32 if dtype == torch.float64 else dtype
    values = forward_and_gradients(exact, "by_formula")
    eager = forward_and_gradients(dense.to(eager_dtype), "by_formula")
    if dtype == torch.float64:  # it has no wider oracle: float32's errors stand in, scaled
        of_eager = forward_and_gradients(dense.to(eager_dtype).to(torch.float64), "by_formula")
    else:
        of_eager = values
    shrink = torch.finfo(dtype).eps / torch.finfo(eager_dtype).eps
    rounding, sum_rounding = (torch.finfo(t).eps / 2 for t in (dtype, arithmetic_dtype(dtype)))
    sums = _sums(exact)
    return {
        name: Expectation(
            value,
            BLUNDER
            * max(
                shrink * _largest(eager[name].double() - of_eager[name]),
                rounding * _largest(value) + sum_rounding * sums[name],
            ),
        )
        for name, value in values.items()
    }


def check(trial: Trial) -> None:
    """Puts a trial to the compiled kernels.

    Raises:
        AssertionError: a result is not the reference's.
    """
    given = problem(trial)
    random = Random(trial.number)
    wanted = [name for name in given.leaves() if random.random() < trial.wanted] or ["offsets[0]"]
    torch.set_num_threads(trial.threads)
    with deformwarp.use_backend("cpu"), deformwarp.use_isa(trial.isa):
        actual = forward_and_gradients(given, wanted=wanted)
    assert_within(actual, expected(given, trial.dtype), trial.dtype)
