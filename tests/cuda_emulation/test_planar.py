"""The planar CUDA kernels, run on the CPU: borders, wild offsets, and sums that many terms enter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import emulated_operators
import pytest
import torch
from emulated_operators import emulated_kernels, emulator
from emulator import DEVICES
from problems import BY_NAME, DTYPES, Case, Problem, assert_within, expectations, forward_and_gradients, problem_of

import deformwarp

reason = emulated_operators.why_not_here()
pytestmark = pytest.mark.skipif(reason is not None, reason=str(reason))

HEIGHT, WIDTH = 6, 8
WILD = (1e4, -1e4, 2.0**31, -(2.0**31), 3e38, -3e38, math.inf, -math.inf, math.nan)
dtypes = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16], ids=lambda dtype: str(dtype).removeprefix("torch.")
)


@pytest.fixture(autouse=True)
def emulation() -> Iterator[None]:
    with emulated_kernels():
        yield


def around(size: int) -> list[float]:
    """Positions on, and on both sides of, every border and pixel of an axis."""
    return [n + step for n in (-2, -1, 0, 1, size - 1, size, size + 1) for step in (-0.25, 0.0, 0.25)]


def sampled_at(positions: list[tuple[float, float]], dtype: torch.dtype) -> Problem:
    """One sample for every position; all its pixels are sampled there."""
    case = Case("point", 2, 3, (HEIGHT, WIDTH), len(positions), (1, 1))
    problem = problem_of(case, dtype).map(lambda tensor: tensor.detach())
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    at = torch.tensor(positions, dtype=torch.float64)[:, :, None, None] - torch.stack([rows, columns])
    problem.offsets = [at.to(dtype).repeat(1, 2, 1, 1)]
    return problem


def assert_like_the_reference(problem: Problem, dtype: torch.dtype) -> None:
    with deformwarp.use_backend("reference"):
        expected = forward_and_gradients(problem)
    for name, tensor in forward_and_gradients(problem).items():
        bound = 32 * torch.finfo(dtype).eps * max(1.0, expected[name].abs().max().item())
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=bound)


@dtypes
@pytest.mark.parametrize("axis", ["y", "x"])
def test_borders(axis: str, dtype: torch.dtype) -> None:
    if axis == "y":
        positions = [(y, x) for y in around(HEIGHT) for x in (-1.0, 2.5)]
    else:
        positions = [(y, x) for x in around(WIDTH) for y in (-1.0, 2.5)]
    assert_like_the_reference(sampled_at(positions, dtype), dtype)


def test_a_float32_position_is_rounded_before_its_cell_is_chosen() -> None:
    below = -(2.0**-27)  # too small to be told from an integer that it is added to
    assert_like_the_reference(sampled_at([(y + below, 3 + below) for y in range(4)], torch.float32), torch.float32)


def test_a_float16_offset_just_below_an_integer_has_the_slope_of_its_side() -> None:
    problem = sampled_at([(float(y), 3.0) for y in range(4)], torch.float16)
    (integers,) = problem.offsets
    below = torch.nextafter(integers, torch.full_like(integers, -600))
    problem.offsets = [torch.where(integers == 0, integers, below)]  # below 0 it is lost in the reference's position
    assert_like_the_reference(problem, torch.float16)


@dtypes
@pytest.mark.parametrize("axis", [0, 1], ids=["y", "x"])
def test_wild_offsets_sample_nothing(axis: int, dtype: torch.dtype) -> None:
    inside = [2.5, 2.5]
    positions = [tuple(value if a == axis else inside[a] for a in (0, 1)) for value in WILD]
    problem = sampled_at(positions, dtype)  # type: ignore[arg-type]
    for name, tensor in forward_and_gradients(problem).items():
        assert not tensor.any(), name


@dtypes
def test_far_offsets_sample_nothing(dtype: torch.dtype) -> None:
    far = [sign * (512 * scale + step) for sign in (1, -1) for scale in (1, 2, 4, 100) for step in (-16, 0, 16)]
    positions = [position for f in far for position in ((f, 2.5), (2.5, f))]
    for name, tensor in forward_and_gradients(sampled_at(positions, dtype)).items():
        assert not tensor.any(), name


@dtypes
def test_neighbours_of_opposite_extremes_do_not_overflow(dtype: torch.dtype) -> None:
    problem = sampled_at([(2.5, 3.5), (1.0, 2.25), (3.75, 4.0)], dtype)
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    largest = torch.finfo(torch.float16).max
    problem.input = (largest * (1 - 2 * ((rows + columns) % 2))).to(dtype).expand_as(problem.input)
    problem.weight = problem.weight / problem.weight.abs().sum()
    problem.grad_output = problem.grad_output / 1024
    with deformwarp.use_backend("reference"):
        expected = forward_and_gradients(problem.to(torch.float64))
    for name, tensor in forward_and_gradients(problem).items():
        bound = 8 * torch.finfo(dtype).eps * max(largest, expected[name].abs().max().item())
        torch.testing.assert_close(tensor.double(), expected[name], rtol=0, atol=bound)


@pytest.mark.parametrize("wanted", [["offsets[0]"], ["offsets[0]", "input"]], ids=["offsets", "input_too"])
def test_what_arrives_at_a_sample_may_be_beyond_float16(wanted: list[str]) -> None:
    outside = (-5.0, 2.0)
    problem = sampled_at([(2.5, 3.5), (1.25, 2.25), outside], torch.float16)
    problem.input = problem.input / 1024
    problem.input[:, 0] = 1  # flat: its slopes are 0, but for those of the border
    problem.weight = problem.weight * 64
    problem.grad_output = torch.full_like(problem.grad_output, 65504)
    arriving = torch.einsum("dqckl,q->dckl", problem.weight.double(), problem.grad_output[0, :, 0, 0].double())
    assert arriving.abs().min() > 65504
    with deformwarp.use_backend("reference"):
        expected = forward_and_gradients(problem.to(torch.float64), wanted=["offsets[0]"])["offsets[0]"]
    gradient = forward_and_gradients(problem, wanted=wanted)["offsets[0]"]
    largest = expected.abs().max().item()
    assert 0 < largest < 65504
    torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=8 * torch.finfo(torch.float16).eps * largest)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_samples_may_be_further_apart_than_32_bits_count(dtype: torch.dtype, tmp_path: Path) -> None:
    # float64 takes the general kernels.
    problem = problem_of(BY_NAME["rows_of_whole_quads"], dtype).samples(0, 2).map(lambda tensor: tensor.detach())
    expected = forward_and_gradients(problem)
    dense = problem.offsets[0]
    stride = 2**31 + 64
    # A file with a hole: it takes neither memory nor disk.
    memory = torch.from_file(str(tmp_path / "offsets"), shared=True, size=stride + dense[0].numel(), dtype=dtype)
    problem.offsets[0] = memory.as_strided(dense.shape, (stride, *dense.stride()[1:])).copy_(dense)
    for name, tensor in forward_and_gradients(problem).items():
        assert torch.equal(tensor, expected[name]), name


def test_sums_of_the_inputs_gradient_are_emptied_before_they_overflow() -> None:
    # One block, and every sample at one pixel: more terms than an integer of 32 bits has room for.
    case = Case("one_pixel_of_all", 1, 1, (24, 24), 1, (5, 5), dilations=((1, 1),) * 5)
    problem = problem_of(case, torch.float32).map(torch.ones_like)
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    taps = [torch.stack([3 - rows - i + 2, 4 - columns - j + 2]) for i in range(5) for j in range(5)]
    problem.offsets = [torch.cat(taps)[None] for _ in case.dilations]
    for dtype in (torch.float32, torch.bfloat16):
        with emulator().device(replace(DEVICES[90], multiprocessors=1)):
            gradient = forward_and_gradients(problem.to(dtype), wanted=["input"])["input"]
        expected = torch.zeros_like(gradient)
        expected[0, 0, 3, 4] = 125 * 24 * 24
        torch.testing.assert_close(gradient, expected, rtol=torch.finfo(dtype).eps, atol=0)


def test_sums_of_many_products_are_as_accurate_as_float32() -> None:
    # Of one sign, so that errors of one sign add up; in one block, so that its sums have as many terms as can be.
    case = Case("many_products", 24, 9, (16, 16), 2, dilations=((1, 1), (2, 2)))
    problem = problem_of(case, torch.float32).map(lambda tensor: tensor.detach().abs())
    with deformwarp.use_backend("reference"):
        exact = forward_and_gradients(problem.to(torch.float64))
    with emulator().device(replace(DEVICES[90], multiprocessors=1)):
        results = forward_and_gradients(problem, wanted=["weight"])
    for name, tensor in results.items():
        torch.testing.assert_close(tensor.double(), exact[name], rtol=16 * torch.finfo(torch.float32).eps, atol=0)


@dtypes
@pytest.mark.parametrize("multiprocessors", [1, 40], ids=["one_block_for_all", "a_block_for_some"])
def test_however_the_work_is_cut(multiprocessors: int, dtype: torch.dtype) -> None:
    case = BY_NAME["rows_of_whole_quads"]
    with emulator().device(replace(DEVICES[90], multiprocessors=multiprocessors)):
        results = forward_and_gradients(problem_of(case, dtype))
    assert_within(results, expectations(case, dtype), dtype)


@dtypes
def test_each_gradient_alone(dtype: torch.dtype) -> None:
    problem = problem_of(BY_NAME["rows_of_whole_quads"], dtype)
    together = forward_and_gradients(problem)
    for name in ("input", "weight", "offsets[1]"):
        alone = forward_and_gradients(problem, wanted=[name])[name]
        assert torch.equal(alone, together[name]), name


def test_views_at_odd_addresses_are_taken_by_the_general_kernels() -> None:
    problem = problem_of(BY_NAME["rows_of_whole_quads"], torch.float32)
    expected = expectations(BY_NAME["rows_of_whole_quads"], torch.float32)
    shifted = torch.empty(problem.offsets[0].numel() + 1)[1:].view_as(problem.offsets[0])
    problem.offsets[0] = shifted.copy_(problem.offsets[0])
    assert_within(forward_and_gradients(problem), expected, torch.float32)


@dtypes
@pytest.mark.parametrize("value", [torch.inf, torch.nan], ids=["inf", "nan"])
def test_without_a_finite_bound_a_samples_gradient_by_the_input_is_nan(value: float, dtype: torch.dtype) -> None:
    problem = problem_of(BY_NAME["rows_of_whole_quads"], dtype).map(torch.clone)
    clean = forward_and_gradients(problem, wanted=["input"])["input"]
    problem.grad_output[1, 2, 1, 0] = value
    gradient = forward_and_gradients(problem, wanted=["input"])["input"]
    assert gradient[1].isnan().all()
    assert torch.equal(gradient[[0, 2]], clean[[0, 2]])
