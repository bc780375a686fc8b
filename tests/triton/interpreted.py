"""The Triton kernels in Triton's interpreter: ``TRITON_INTERPRET=1 pytest tests/triton/interpreted.py``.

The variable must be set before Triton is imported, so this runs in a process of its own (tests/test_triton.py), and the
suite does not collect it. The interpreter takes milliseconds for every operation of every program: the cases are tiny.
Its bfloat16 is wrong without a word, so the backend refuses it; float16 stands for both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from problems import (
    Case,
    assert_near,
    assert_same_bits,
    assert_within,
    expectations,
    forward_and_gradients,
    problem_of,
)
from torch import Tensor

import deformwarp
from deformwarp import rules
from deformwarp.backends import BACKENDS
from deformwarp.triton import launch
from deformwarp.triton.plan import Device

PLANAR = (
    Case("planar", 3, 2, (4, 5), 2, (2, 2), ((1, 1),), ((1, 1),), biased=True, scale=0.5),
    Case("planar_parts", 2, 3, (5, 4), 1, dilations=((1, 1), (2, 3)), masked=True),
    Case("planar_tiles", 2, 2, (9, 11), 1, (1, 2), ((2, 3),), ((0, 2),), spread=3),
    Case("planar_whole_tiles", 2, 2, (8, 8), 1, (1, 2), ((2, 3),), ((0, 1),), (1, 1)),
    Case("planar_groups", 4, 2, (3, 4), 1, (2, 1), padding=((1, 0),), groups=2, stride=(2, 1), masked=True),
    Case("planar_beyond_16", 2, 18, (3, 3), 1, (1, 1)),
)
SHARED = (
    Case("shared", 6, 3, (3, 4), 2, (2, 1), padding=((1, 1),), offset_groups=1, biased=True, scale=0.5),
    Case("shared_parts", 4, 2, (3, 2), 1, (1, 2), ((1, 2), (1, 4)), ((0, 1), (0, 2)), offset_groups=2, masked=True),
    Case("shared_cut", 12, 6, (3, 2), 1, (1, 1), groups=3, offset_groups=2, masked=True),
    Case("shared_beyond_a_block", 35, 18, (3, 3), 1, (1, 1), offset_groups=1, stride=(2, 1)),
)
CASES = PLANAR + SHARED
cases = pytest.mark.parametrize("case", CASES, ids=str)
both = pytest.mark.parametrize("case", [PLANAR[1], SHARED[1]], ids=str)
groups = pytest.mark.parametrize("groups", [None, 1], ids=["planar", "shared"])
AMD = Device("hip", "gfx942", 304)


@cache
def results_of(case: Case) -> dict[str, Tensor]:
    """Output and every gradient in float32, computed once."""
    return forward_and_gradients(problem_of(case, torch.float32))


@pytest.fixture(autouse=True)
def _triton() -> Iterator[None]:
    with deformwarp.use_backend("triton"):
        yield


@cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_forward_and_every_gradient_are_as_near_as_eager_pytorchs(case: Case, dtype: torch.dtype) -> None:
    assert_within(forward_and_gradients(problem_of(case, dtype)), expectations(case, dtype), dtype)


@both
def test_settings_for_amd(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "device_of", lambda index: AMD)
    assert_within(
        forward_and_gradients(problem_of(case, torch.float32)), expectations(case, torch.float32), torch.float32
    )


@both
def test_parts_in_one_program_and_in_several_give_the_same_bits(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, parts = problem_of(case, torch.float32), []
    forward = launch._forward
    monkeypatch.setattr(launch, "_forward", lambda *args, split: (parts.append(split), forward(*args, split=split)))
    with torch.no_grad():
        results = []
        for multiprocessors in (132, 0):
            device = Device("cuda", "90", multiprocessors)
            monkeypatch.setattr(launch, "device_of", lambda index, device=device: device)
            results.append(problem.warp())
    assert parts == [True, False]
    assert torch.equal(*results)


@both
def test_a_sample_is_the_same_alone_and_in_a_batch(case: Case) -> None:
    problem = problem_of(replace(case, batch=2), torch.float32)
    together, alone = forward_and_gradients(problem), forward_and_gradients(problem.samples(1, 2))
    for name in together.keys() - {"input", "weight", "bias"}:
        assert torch.equal(together[name][1], alone[name][0]), name
    assert_near({"input": together["input"][1]}, {"input": alone["input"][0]})


@both
def test_an_empty_batch(case: Case) -> None:
    problem = problem_of(replace(case, batch=0), torch.float32)
    results = forward_and_gradients(problem)
    assert all(results[name].shape == leaf.shape for name, leaf in problem.leaves().items())
    assert not results["weight"].any()


@both
@pytest.mark.parametrize("name", ["input", "weight", "offsets[0]", "masks[0]"])
def test_a_gradient_asked_for_alone_equals_that_of_the_full_run(case: Case, name: str) -> None:
    full = results_of(case)
    alone = forward_and_gradients(problem_of(case, torch.float32), wanted=[name])
    assert_same_bits(alone, {key: full[key] for key in ("output", name)})


@both
def test_deterministic_algorithms_add_up_integers(case: Case) -> None:
    problem = problem_of(case, torch.float32)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        results = forward_and_gradients(problem)
    finally:
        torch.use_deterministic_algorithms(before)
    assert_within(results, expectations(case, torch.float32), torch.float32)
    default = results_of(case)
    assert not torch.equal(results["input"], default["input"])  # or the integers were not used
    assert_same_bits({**results, "input": default["input"]}, default)


def test_deterministic_algorithms_keep_what_is_not_finite_within_its_plane() -> None:
    problem = problem_of(replace(PLANAR[0], groups=3, out_channels=3, biased=False), torch.float32).map(torch.clone)
    problem.grad_output[1, 2, 0, 0] = math.nan
    torch.use_deterministic_algorithms(True)
    try:
        by_input = forward_and_gradients(problem, wanted=["input"])["input"]
    finally:
        torch.use_deterministic_algorithms(False)
    assert by_input[1, 2].isnan().all()
    assert by_input.isnan().sum() == by_input[1, 2].numel()


@groups
def test_values_and_gradients_at_every_border_are_torchvisions(groups: int | None) -> None:
    steps = torch.tensor([-2.0, -1.5, -1.0, -0.5, 0.0, 0.25, 1.0, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0])
    case = Case("borders", 2, 2, (3, 3), 1, (1, 1), padding=((5, 5),), offset_groups=groups)
    problem = problem_of(case, torch.float32).map(torch.clone)
    from_grid = steps - (torch.arange(13) - 5)
    offset = torch.stack(torch.meshgrid(from_grid, from_grid, indexing="ij"))
    problem.offsets = [offset.repeat(1 if groups else 2, 1, 1)[None]]
    ours, theirs = forward_and_gradients(problem), forward_and_gradients(problem, "by_torchvision")
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-5)


WILD = (1e30, -1e30, 2.0**31, -(2.0**31), math.inf, -math.inf, math.nan)


@groups
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_wild_offsets_are_samples_of_zero_without_gradients(dtype: torch.dtype, groups: int | None) -> None:
    case = Case("wild", 2, 2, (2, 4), 1, (1, 2), padding=((0, 1),), offset_groups=groups, masked=True)
    problem = problem_of(case, dtype).map(torch.clone)
    wild = torch.tensor(WILD).to(dtype)
    problem.offsets[0][0, 2].view(-1)[: len(WILD)] = wild  # y of the second tap of the first offset group
    results = forward_and_gradients(problem)
    assert all(tensor.isfinite().all() for tensor in results.values())
    assert not results["offsets[0]"][0, 2:4].flatten(1)[:, : len(WILD)].any()
    assert not results["masks[0]"][0, 1].flatten()[: len(WILD)].any()
    problem.offsets[0][0, 2].view(-1)[: len(WILD)] = -20
    assert_same_bits(forward_and_gradients(problem), results)


@groups
def test_pixels_that_are_not_finite_reach_only_their_own_cells(groups: int | None) -> None:
    case = Case("nan", 2, 2, (5, 8), 1, (1, 1), offset_groups=groups, spread=0.2)
    problem = problem_of(case, torch.float32).map(torch.clone)
    problem.offsets = [offset.clamp(-0.4, 0.4) for offset in problem.offsets]
    clean = problem.warp().detach()
    problem.input[0, 1, 0, 0] = math.nan
    touched = (problem.warp() != clean).any(1)[0]
    assert touched[0, 0]
    assert not touched[2:].any()
    assert not touched[:, 2:].any()


@both
def test_memory_layouts_do_not_matter(case: Case) -> None:
    problem = problem_of(case, torch.float32)
    assert problem.masks is not None
    other = problem.map(lambda t: t.detach().contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t)
    other.offsets, other.masks = (list(torch.stack(many, 1).unbind(1)) for many in (problem.offsets, problem.masks))
    assert_same_bits(forward_and_gradients(other), results_of(case))


@both
def test_results_do_not_depend_on_what_memory_held(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, expected = problem_of(case, torch.float32), results_of(case)
    empty = torch.Tensor.new_empty

    def poisoned(self: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        made = empty(self, *args, **options)  # type: ignore[arg-type]
        return made.fill_(math.nan if made.is_floating_point() else -1)

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    assert_same_bits(forward_and_gradients(problem), expected)


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [(torch.float64, "float64, and these kernels compute in float32"), (torch.bfloat16, "bfloat16, .* wrongly")],
    ids=["float64", "bfloat16"],
)
def test_what_the_kernels_do_not_take_is_refused_with_the_reason(dtype: torch.dtype, reason: str) -> None:
    with pytest.raises(RuntimeError, match=f"backend 'triton' cannot take this problem: its tensors are {reason}"):
        problem_of(PLANAR[0], dtype).warp()


def test_many_branches_are_refused_with_the_reason() -> None:
    x, weight, offset = torch.rand(1, 1, 2, 2), torch.rand(33, 1, 1, 1, 1), torch.rand(1, 2, 2, 2)
    problem = rules.Problem(x, [offset] * 33, [], weight, None, [1, 1], [0, 0] * 33, [1, 1] * 33)
    assert BACKENDS["triton"].why_not(problem) == "it has 33 branches, and these kernels take at most 32"


def test_a_second_derivative_is_the_reference_formulas() -> None:
    problem = problem_of(PLANAR[0], torch.float32).map(lambda t: t.detach().requires_grad_())
    (by_input,) = torch.autograd.grad(problem.warp().square().sum(), problem.input, create_graph=True)
    (second,) = torch.autograd.grad(by_input.square().sum(), problem.weight)
    with deformwarp.use_backend("reference"):
        (by_input,) = torch.autograd.grad(problem.warp().square().sum(), problem.input, create_graph=True)
        (expected,) = torch.autograd.grad(by_input.square().sum(), problem.weight)
    torch.testing.assert_close(second, expected, rtol=1e-4, atol=1e-4)


def _geometry(case: Case) -> list[Any]:
    flat = [[number for pair in pairs for number in pair] for pairs in (case.paddings, case.dilations)]
    return [list(case.stride), *flat, case.scale]


def test_the_operator_passes_opcheck() -> None:
    problem = problem_of(PLANAR[5], torch.float32).map(lambda tensor: tensor.detach().requires_grad_())
    arguments = (problem.input, problem.offsets, [], problem.weight, None, *_geometry(problem.case))
    torch.library.opcheck(torch.ops.deformwarp.warp_triton, arguments)


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("batch", [1, 0], ids=["one", "empty"])
def test_gradients_have_the_strides_that_compilers_are_told(case: Case, dtype: torch.dtype, batch: int) -> None:
    problem = problem_of(replace(case, batch=batch), dtype)
    problem.weight = problem.weight.transpose(1, 2).contiguous().transpose(1, 2)
    arguments = (problem.grad_output, problem.input, problem.offsets, problem.masks or [], problem.weight)
    backward = torch.ops.deformwarp.warp_triton_backward
    results = []
    for device in ("cpu", "meta"):
        moved = torch.utils._pytree.tree_map(lambda tensor, device=device: tensor.detach().to(device), arguments)
        leaves = torch.utils._pytree.tree_leaves(backward(*moved, *_geometry(case), *[True] * 4))
        results.append([(leaf.shape, leaf.stride()) for leaf in leaves])
    real, told = results
    assert real == told


def test_a_call_compiles_into_one_graph() -> None:
    problem = problem_of(PLANAR[5], torch.float32)
    compiled = torch.compile(problem.warp, backend="aot_eager", fullgraph=True)
    assert_near({"output": compiled()}, {"output": problem.warp()})
