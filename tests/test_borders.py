"""What a sample is at, and beyond, the border of the image: torchvision's convention, and nothing for wild offsets."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from problems import DTYPES, Case, Problem, assert_same_bits, forward_and_gradients, problem_of

HEIGHT, WIDTH = 5, 6
layouts = pytest.mark.parametrize("groups", [None, 1], ids=["planar", "shared"])
exact_dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def _around(size: int, dtype: torch.dtype) -> list[float]:
    """Positions on both sides of every border and pixel of one axis."""
    exact = torch.tensor([-2, -1, *range(size), size, size + 1], dtype=dtype)
    infinity = torch.full_like(exact, math.inf)
    both_sides = (
        exact,
        torch.nextafter(exact, infinity),
        torch.nextafter(exact, -infinity),
        exact + 0.01,
        exact - 0.01,
    )
    return torch.cat([*both_sides, exact + 0.5]).tolist()


def _sampled_at(positions: list[tuple[float, float]], dtype: torch.dtype, groups: int | None) -> Problem:
    """Two channels, sampled once per batch entry, at the position itself: output pixel (0, 0) has base 0."""
    case = Case("point", 2, 2, (HEIGHT, WIDTH), 1, (1, 1), stride=(HEIGHT, WIDTH), offset_groups=groups)
    problem = problem_of(case, dtype).map(lambda tensor: tensor.detach())
    count = len(positions)
    problem.input = problem.input.expand(count, -1, -1, -1)
    offset = torch.tensor(positions, dtype=dtype).reshape(count, 2, 1, 1)
    problem.offsets = [offset.repeat(1, 1 if groups else 2, 1, 1)]
    problem.grad_output = problem.grad_output.expand(count, -1, -1, -1)
    return problem


@layouts
@exact_dtypes
@pytest.mark.parametrize("axis", ["y", "x"])
@pytest.mark.parametrize("other", [1.5, 0.0, -1.0, -0.5])
@pytest.mark.usefixtures("backend")
def test_values_and_gradients_at_every_border_are_torchvisions(
    axis: str, other: float, dtype: torch.dtype, groups: int | None
) -> None:
    if axis == "y":
        positions = [(y, other) for y in _around(HEIGHT, dtype)]
    else:
        positions = [(other, x) for x in _around(WIDTH, dtype)]
    problem = _sampled_at(positions, dtype, groups)
    ours, theirs = forward_and_gradients(problem), forward_and_gradients(problem, "by_torchvision")
    for name in ours:
        bound = 64 * torch.finfo(dtype).eps  # inputs, weights and gradients are of order 1
        torch.testing.assert_close(ours[name], theirs[name], rtol=bound, atol=bound)


@layouts
@exact_dtypes
@pytest.mark.usefixtures("backend")
def test_values_and_gradients_at_every_corner_are_torchvisions(dtype: torch.dtype, groups: int | None) -> None:
    borders = [[-1.0, 0.0, size - 1.0, float(size)] for size in (HEIGHT, WIDTH)]
    problem = _sampled_at(list(itertools.product(*borders)), dtype, groups)
    ours, theirs = forward_and_gradients(problem), forward_and_gradients(problem, "by_torchvision")
    for name in ours:
        bound = 64 * torch.finfo(dtype).eps
        torch.testing.assert_close(ours[name], theirs[name], rtol=bound, atol=bound)


@layouts
@pytest.mark.usefixtures("backend")
def test_on_minus_one_a_sample_is_zero_and_has_a_slope(groups: int | None) -> None:
    results = forward_and_gradients(_sampled_at([(-1.0, 2.0), (2.0, -1.0)], torch.float64, groups))
    assert not results["output"].any()
    slopes = results["offsets[0]"].reshape(2, -1, 2)
    assert slopes[0, :, 0].all()
    assert slopes[1, :, 1].all()


@layouts
@pytest.mark.usefixtures("backend")
def test_on_the_far_border_a_sample_is_zero_and_has_no_slope(groups: int | None) -> None:
    results = forward_and_gradients(_sampled_at([(float(HEIGHT), 2.0), (2.0, float(WIDTH))], torch.float64, groups))
    assert not results["output"].any()
    assert not results["offsets[0]"].any()


WILD = {
    "1e30": 1e30,
    "-1e30": -1e30,
    "2^31": 2.0**31,
    "-2^31": -(2.0**31),
    "2^15": 2.0**15,
    "-2^15": -(2.0**15),
    "inf": math.inf,
    "-inf": -math.inf,
    "nan": math.nan,
}
wild = pytest.mark.parametrize("value", WILD.values(), ids=WILD.keys())
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def _with_one_offset(value: float, dtype: torch.dtype, groups: int | None, axis: int) -> tuple[Problem, int]:
    """A problem in which one tap of one pixel of sample 1 is sampled at ``value``, and the number of its channel."""
    case = Case("wild", 4, 3, (6, 7), dilations=((1, 1), (2, 2)), offset_groups=groups, masked=True)
    problem = problem_of(case, dtype).map(torch.clone)
    channel = 2 * 4 + axis  # the centre tap of the first offset group
    problem.offsets[1][1, channel, 3, 2] = value
    return problem, channel


@wild
@dtypes
@layouts
@pytest.mark.parametrize("axis", [0, 1], ids=["y", "x"])
@pytest.mark.usefixtures("backend")
def test_a_wild_offset_is_a_sample_of_zero_without_gradients(
    value: float, dtype: torch.dtype, groups: int | None, axis: int
) -> None:
    problem, channel = _with_one_offset(value, dtype, groups, axis)
    results = forward_and_gradients(problem)
    assert all(tensor.isfinite().all() for tensor in results.values())
    assert not results["offsets[1]"][1, [channel, channel ^ 1], 3, 2].any()
    assert not results["masks[1]"][1, channel // 2, 3, 2].any()


@wild
@layouts
@pytest.mark.usefixtures("backend")
def test_a_wild_offset_equals_one_just_outside(value: float, groups: int | None) -> None:
    wild_problem, _ = _with_one_offset(value, torch.float32, groups, 0)
    outside, _ = _with_one_offset(-20.0, torch.float32, groups, 0)
    assert_same_bits(forward_and_gradients(wild_problem), forward_and_gradients(outside))


@layouts
@pytest.mark.usefixtures("backend")
def test_a_nan_offset_touches_no_other_pixel(groups: int | None) -> None:
    problem, _ = _with_one_offset(math.nan, torch.float32, groups, 1)
    clean, _ = _with_one_offset(0.3, torch.float32, groups, 1)
    with torch.no_grad():
        same = problem.warp() == clean.warp()
    expected = torch.ones_like(same)
    expected[1, :, 3, 2] = False
    assert torch.equal(same, expected)


@wild
@layouts
@pytest.mark.usefixtures("backend")
def test_all_offsets_wild_leave_the_bias(value: float, groups: int | None) -> None:
    case = Case("all_wild", 20, 3, (6, 50), offset_groups=groups, biased=True)
    problem = problem_of(case, torch.float32).map(torch.clone)
    problem.offsets = [torch.full_like(problem.offsets[0], value)]
    results = forward_and_gradients(problem)
    assert problem.bias is not None
    assert torch.equal(results["output"], problem.bias.reshape(1, -1, 1, 1).expand_as(results["output"]))
    assert not any(results[name].any() for name in ("input", "offsets[0]", "weight"))
