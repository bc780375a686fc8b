"""Batches and threads change nothing: sample by sample, and bit by bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from problems import BY_NAME, Case, Problem, assert_near, assert_same_bits, forward_and_gradients, problem_of

layouts = pytest.mark.parametrize("groups", [None, 1], ids=["planar", "shared"])


def _small(batch: int, groups: int | None) -> Problem:
    case = Case(
        "batch", 3, 2, (6, 5), batch, dilations=((1, 1), (2, 1)), offset_groups=groups, masked=True, biased=True
    )
    return problem_of(case, torch.float32)


@pytest.mark.parametrize("batch", [0, 1, 31, 37, 80, 97])
@layouts
@pytest.mark.usefixtures("backend")
def test_any_batch_size(batch: int, groups: int | None) -> None:
    problem = _small(batch, groups)
    results = forward_and_gradients(problem)
    assert all(results[name].shape == leaf.shape for name, leaf in problem.leaves().items())
    with_torchvision = forward_and_gradients(problem, "by_torchvision") if batch else _nothing(problem)
    assert_near(results, with_torchvision, ulps=256)


def _nothing(problem: Problem) -> dict[str, torch.Tensor]:
    return {"output": problem.grad_output} | {name: torch.zeros_like(leaf) for name, leaf in problem.leaves().items()}


@layouts
@pytest.mark.parametrize("number", [0, 41, 79])
@pytest.mark.usefixtures("kernels")
def test_a_sample_is_the_same_alone_and_in_a_batch_of_80(number: int, groups: int | None) -> None:
    problem = _small(80, groups)
    together, alone = forward_and_gradients(problem), forward_and_gradients(problem.samples(number, number + 1))
    for name in ("output", "offsets[0]", "offsets[1]", "masks[0]", "masks[1]"):
        assert torch.equal(together[name][number], alone[name][0]), name
    # A small batch is cut into more parts, whose sums are added in another order.
    assert_near({"input": together["input"][number]}, {"input": alone["input"][0]})


@layouts
@pytest.mark.usefixtures("backend")
def test_weight_gradients_of_a_batch_are_the_sum_of_its_samples(groups: int | None) -> None:
    problem = _small(37, groups)
    together = forward_and_gradients(problem)["weight"]
    apart = [forward_and_gradients(problem.samples(n, n + 1))["weight"] for n in range(37)]
    assert_near({"weight": together}, {"weight": torch.stack(apart).sum(0)})


DETERMINISM = [
    replace(BY_NAME[name], batch=batch)
    for name in (
        "plane_of_many_tiles",
        "masks_bias_groups",
        "shared_plane_of_many_tiles",
        "shared_cut_by_weight_groups",
    )
    for batch in (1, 3)
]
determinism = pytest.mark.parametrize("case", DETERMINISM, ids=lambda case: f"{case}-N={case.batch}")
deterministic_dtypes = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16], ids=lambda dtype: str(dtype).removeprefix("torch.")
)


@determinism
@deterministic_dtypes
@pytest.mark.usefixtures("kernels")
def test_two_runs_are_bitwise_equal(case: Case, dtype: torch.dtype) -> None:
    problem = problem_of(case, dtype)
    first = forward_and_gradients(problem)
    for _ in range(5):
        assert_same_bits(forward_and_gradients(problem), first)


@determinism
@deterministic_dtypes
@pytest.mark.usefixtures("kernels", "restored_threads")
def test_any_number_of_threads_is_bitwise_equal(case: Case, dtype: torch.dtype) -> None:
    problem = problem_of(case, dtype)
    torch.set_num_threads(1)
    single = forward_and_gradients(problem)
    for threads in (2, 3, 4):
        torch.set_num_threads(threads)
        assert_same_bits(forward_and_gradients(problem), single)


@pytest.mark.usefixtures("kernels")
def test_results_do_not_depend_on_what_memory_held() -> None:
    problem = problem_of(BY_NAME["primes"], torch.float32)
    first = forward_and_gradients(problem)
    for poison in (float("nan"), 1e30):
        for tensor in problem.leaves().values():
            torch.full_like(tensor, poison)  # freed at once: the next buffer of its size is this one
        assert_same_bits(forward_and_gradients(problem), first)
