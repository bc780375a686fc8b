"""The CUDA kernels, run on the CPU: what the conformance suite does not ask of every backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import emulated_operators
import pytest
import torch
from emulated_operators import emulated_kernels, emulator
from emulator import DEVICES, Device
from problems import BY_NAME, Case, assert_same_bits, assert_within, expectations, forward_and_gradients, problem_of

from deformwarp import ops

reason = emulated_operators.why_not_here()
pytestmark = pytest.mark.skipif(reason is not None, reason=str(reason))

MANY_CHANNELS = Case("many_channels", 200, 5, (3, 4), 1, offset_groups=1, masked=True, dilations=((1, 1), (2, 1)))
SEEDED = (
    BY_NAME["plane_of_many_tiles"],
    BY_NAME["rows_of_whole_quads"],
    BY_NAME["masks_bias_groups"],
    BY_NAME["shared_cut_by_weight_groups"],
    BY_NAME["shared_depthwise"],
    MANY_CHANNELS,
)
dtypes = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16], ids=lambda dtype: str(dtype).removeprefix("torch.")
)


@pytest.fixture(autouse=True)
def emulation() -> Iterator[None]:
    with emulated_kernels():
        yield


@dtypes
@pytest.mark.parametrize("case", SEEDED, ids=str)
def test_the_order_of_blocks_and_threads_changes_no_bit(case: Case, dtype: torch.dtype) -> None:
    problem = problem_of(case, dtype)
    first = forward_and_gradients(problem)
    for seed in (1, 2):
        emulator().seed(seed)
        assert_same_bits(forward_and_gradients(problem), first)


# The smallest and the largest chip cut the work differently.
ONE_MULTIPROCESSOR = replace(DEVICES[90], multiprocessors=1)


@dtypes
@pytest.mark.parametrize("case", [BY_NAME["depthwise"], MANY_CHANNELS], ids=str)
def test_partial_sums_are_added_in_the_order_of_one_block(case: Case, dtype: torch.dtype) -> None:
    problem = problem_of(case, dtype)
    with emulator().device(ONE_MULTIPROCESSOR):
        whole = forward_and_gradients(problem)
    with emulator().device(DEVICES[120]):
        partial = forward_and_gradients(problem)
    alike = [name for name in whole if name != "weight"]  # whose sums are cut for the chip
    assert_same_bits({name: partial[name] for name in alike}, {name: whole[name] for name in alike})
    assert_within(whole, expectations(case, dtype), dtype)
    assert_within(partial, expectations(case, dtype), dtype)


@pytest.mark.parametrize("device", DEVICES.values(), ids=lambda device: f"sm_{device.architecture}")
@pytest.mark.parametrize("name", ["masks_bias_groups", "shared_beyond_vectors"])
def test_every_architecture(name: str, device: Device) -> None:
    for dtype in (torch.float64, torch.float16):
        with emulator().device(device):
            results = forward_and_gradients(problem_of(BY_NAME[name], dtype))
        assert_within(results, expectations(BY_NAME[name], dtype), dtype)


@pytest.mark.parametrize("groups", [None, 1], ids=["planar", "shared"])
def test_more_branches_than_a_launch_takes(groups: int | None) -> None:
    case = Case("branches", 3, 2, (4, 5), 2, dilations=((1, 1), (2, 1), (1, 2)) * 12, offset_groups=groups, masked=True)
    assert_within(
        forward_and_gradients(problem_of(case, torch.float32)), expectations(case, torch.float32), torch.float32
    )


@pytest.mark.parametrize("channels", [65, 70])
def test_more_output_channels_than_a_block_takes(channels: int) -> None:
    case = Case("wide", 4, channels, (5, 6), 2, offset_groups=1, biased=True)
    assert_within(
        forward_and_gradients(problem_of(case, torch.float32)), expectations(case, torch.float32), torch.float32
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("factor", [2.0**-120, 2.0**-60, 2.0**60], ids=["tiny", "small", "large"])
def test_the_fixed_points_scale_follows_the_gradients(factor: float, dtype: torch.dtype) -> None:
    problem = problem_of(BY_NAME["primes"], dtype)
    expected = forward_and_gradients(problem, wanted=["input"])["input"]
    scaled = replace(problem, grad_output=problem.grad_output * factor)
    actual = forward_and_gradients(scaled, wanted=["input"])["input"] / factor
    bound = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(actual, expected, rtol=0, atol=bound * expected.abs().max().item())


@pytest.mark.parametrize("value", [torch.inf, torch.nan], ids=["inf", "nan"])
@pytest.mark.parametrize("where", ["grad_output", "mask"])
def test_without_a_finite_bound_a_samples_gradient_by_the_input_is_nan(where: str, value: float) -> None:
    problem = problem_of(BY_NAME["shared_lopsided"], torch.float32).map(torch.clone)
    clean = forward_and_gradients(problem, wanted=["input"])["input"]
    assert problem.masks is not None
    (problem.grad_output if where == "grad_output" else problem.masks[1])[1, 2, 1, 0] = value
    gradient = forward_and_gradients(problem, wanted=["input"])["input"]
    assert gradient[1].isnan().all()
    assert torch.equal(gradient[[0, 2]], clean[[0, 2]])


def test_a_device_that_the_build_does_not_serve_falls_back_with_one_warning() -> None:
    case = BY_NAME["masks_bias_groups"]
    ops.warn_of_fallback.cache_clear()
    with (
        emulator().device(replace(DEVICES[75], architecture=70)),
        pytest.warns(UserWarning, match="backend 'cuda' was built for .* 'reference' takes over") as warned,
    ):
        results = forward_and_gradients(problem_of(case, torch.float32))
    assert len(warned) == 1
    assert_within(results, expectations(case, torch.float32), torch.float32)
