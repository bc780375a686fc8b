"""Forward and every gradient are as near to the float64 reference as eager PyTorch is, in every dtype."""

from __future__ import annotations

import pytest
import torch
from problems import (
    BY_NAME,
    CASES,
    DTYPES,
    Case,
    assert_same_bits,
    assert_within,
    expectations,
    forward_and_gradients,
    problem_of,
)

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


@dtypes
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("kernels")
def test_forward(case: Case, dtype: torch.dtype) -> None:
    with torch.no_grad():
        output = problem_of(case, dtype).warp()
    assert_within({"output": output}, expectations(case, dtype), dtype)


@dtypes
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("kernels")
def test_every_gradient(case: Case, dtype: torch.dtype) -> None:
    assert_within(forward_and_gradients(problem_of(case, dtype)), expectations(case, dtype), dtype)


@pytest.mark.parametrize("case", ["masks_bias_groups", "shared_lopsided"])
@pytest.mark.parametrize(
    "wanted",
    [
        ["input"],
        ["weight"],
        ["offsets[0]"],
        ["masks[0]"],
        ["bias"],
        ["offsets[1]", "masks[1]"],
        ["weight", "offsets[0]", "masks[0]"],
    ],
    ids="+".join,
)
@pytest.mark.usefixtures("backend")
def test_gradients_asked_for_alone_equal_those_of_the_full_run(case: str, wanted: list[str]) -> None:
    problem = problem_of(BY_NAME[case], torch.float32)
    full = forward_and_gradients(problem)
    assert_same_bits(forward_and_gradients(problem, wanted=wanted), {name: full[name] for name in ["output", *wanted]})


@pytest.mark.usefixtures("backend")
def test_without_gradients_there_is_no_graph() -> None:
    problem = problem_of(BY_NAME["primes"], torch.float32)
    assert not problem.warp().requires_grad


@pytest.mark.parametrize("groups", [None, 1], ids=["planar", "shared"])
@pytest.mark.usefixtures("backend")
def test_one_tensor_for_several_offsets_has_the_sum_of_their_gradients(groups: int | None) -> None:
    case = Case("aliased", 4, 3, dilations=((1, 1), (2, 2), (3, 3)), offset_groups=groups, masked=True)
    problem = problem_of(case)
    problem = problem.map(lambda tensor: tensor.detach())
    assert problem.masks is not None
    problem.offsets, problem.masks = [problem.offsets[0]] * 3, [problem.masks[0]] * 3
    apart = forward_and_gradients(problem.map(torch.clone))
    offset, mask = problem.offsets[0].requires_grad_(), problem.masks[0].requires_grad_()
    by_offset, by_mask = torch.autograd.grad(problem.warp(), (offset, mask), problem.grad_output)
    torch.testing.assert_close(by_offset, sum(apart[f"offsets[{d}]"] for d in range(3)))
    torch.testing.assert_close(by_mask, sum(apart[f"masks[{d}]"] for d in range(3)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("channels", [1, 2], ids=["planar", "shared"])
@pytest.mark.usefixtures("backend")
def test_positions_of_half_types_are_float32(dtype: torch.dtype, channels: int) -> None:
    # Near column 4000 neither half type has quarters, nor even every integer.
    ramp = torch.arange(4096).remainder(8).to(dtype).expand(1, channels, 1, 4096)
    weight = torch.eye(channels, dtype=dtype).reshape(1, channels, channels, 1, 1)
    quarter = torch.zeros(1, 2, 1, 4096, dtype=dtype)
    quarter[:, 1] = 0.25
    case = Case("wide", channels, channels, (1, 4096), 1, (1, 1), offset_groups=1)
    problem = problem_of(case, dtype).map(lambda tensor: tensor.detach())
    problem.input, problem.offsets, problem.weight = ramp, [quarter], weight
    output = problem.warp()[0, :, 0]
    rising = torch.arange(4096) % 8 < 7
    assert torch.equal(output[:, rising], (ramp[0, :, 0] + 0.25)[:, rising])
