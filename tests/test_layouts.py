"""Memory layouts do not matter: views give what their contiguous copies give, and gradients find their way back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from problems import BY_NAME, Case, assert_near, assert_same_bits, forward_and_gradients, problem_of
from torch import Tensor

import deformwarp

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t,
    "transposed": lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2) if t.dim() > 1 else t,
    "reversed_dims": lambda t: t.permute(*reversed(range(t.dim()))).contiguous().permute(*reversed(range(t.dim()))),
    "every_second_column": lambda t: torch.stack([t, torch.full_like(t, 7)], -1)[..., 0],
    "every_second_channel": lambda t: torch.stack([torch.full_like(t, 7), t], min(2, t.dim()))[
        (slice(None),) * min(2, t.dim()) + (1,)
    ],
    "slice_of_more_channels": lambda t: torch.cat([torch.full_like(t, 7), t], 1)[:, t.shape[1] :] if t.dim() > 1 else t,
    "slice_of_more_rows": lambda t: (
        torch.cat([t, torch.full_like(t, 7)], -2)[..., : t.shape[-2], :] if t.dim() > 1 else t
    ),
    "storage_offset": lambda t: torch.cat([t.new_full((3,), 7), t.flatten()])[3:].reshape(t.shape),
}
CASES = [BY_NAME[name] for name in ("masks_bias_groups", "shared_lopsided", "one_channel")]
cases = pytest.mark.parametrize("case", CASES, ids=str)


@cases
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.usefixtures("backend")
def test_every_argument_in_another_layout(case: Case, layout: Callable[[Tensor], Tensor]) -> None:
    problem = problem_of(case, torch.float32)
    views = problem.map(lambda tensor: layout(tensor.detach()))
    assert all(
        torch.equal(view, tensor)
        for view, tensor in zip(views.leaves().values(), problem.leaves().values(), strict=True)
    )
    # torch's own sum, which is the bias's gradient, depends on the order of memory.
    assert_near(forward_and_gradients(views), forward_and_gradients(problem), ulps=8)


@cases
@pytest.mark.usefixtures("backend")
def test_gradients_arrive_at_the_base_of_a_view(case: Case) -> None:
    problem = problem_of(case, torch.float64)
    expected = forward_and_gradients(problem)
    bases = [torch.stack([torch.zeros_like(t), t], -1).requires_grad_() for t in problem.leaves().values()]
    views = iter([base[..., 1] for base in bases])
    # leaves() lists input and weight first, map() visits the offsets and masks between them.
    named = dict(zip(problem.leaves(), views, strict=True))
    viewed = problem.map(lambda tensor: tensor)
    viewed.input, viewed.weight, viewed.bias = named["input"], named["weight"], named.get("bias")
    viewed.offsets = [named[f"offsets[{d}]"] for d in range(len(problem.offsets))]
    if problem.masks is not None:
        viewed.masks = [named[f"masks[{d}]"] for d in range(len(problem.masks))]
    grads = torch.autograd.grad(viewed.warp(), bases, problem.grad_output)
    for name, grad in zip(problem.leaves(), grads, strict=True):
        assert not grad[..., 0].any(), name
        assert torch.equal(grad[..., 1], expected[name]), name


@pytest.mark.usefixtures("backend")
def test_stacked_offsets_and_masks_equal_sequences() -> None:
    problem = problem_of(BY_NAME["masks_bias_groups"]).map(lambda tensor: tensor.detach())
    assert problem.masks is not None
    expected = forward_and_gradients(problem)
    offsets = torch.stack(problem.offsets, 1).requires_grad_()
    masks = torch.stack(problem.masks, 1).requires_grad_()
    case = problem.case
    output = deformwarp.fused_deform_warp(
        problem.input,
        offsets,
        problem.weight,
        problem.bias,
        dilations=case.dilations,
        padding=case.paddings,
        masks=masks,
        scale=case.scale,
    )
    by_offsets, by_masks = torch.autograd.grad(output, (offsets, masks), problem.grad_output)
    assert torch.equal(output, expected["output"])
    for d in range(len(case.dilations)):
        assert torch.equal(by_offsets[:, d], expected[f"offsets[{d}]"])
        assert torch.equal(by_masks[:, d], expected[f"masks[{d}]"])


@pytest.mark.parametrize("dim", [0, 1, 2, 3], ids="NCHW")
@pytest.mark.parametrize("name", ["primes", "shared"])
@pytest.mark.usefixtures("backend")
def test_expanded_tensors(dim: int, name: str) -> None:
    problem = problem_of(BY_NAME[name], torch.float32).map(lambda tensor: tensor.detach())

    def expanded(tensor: Tensor) -> Tensor:
        return tensor.narrow(dim, 0, 1).expand(tensor.shape)

    problem.input, problem.offsets = expanded(problem.input), [expanded(offset) for offset in problem.offsets]
    copies = problem.map(lambda tensor: tensor.clone(memory_format=torch.contiguous_format))
    assert problem.input.stride(dim) == 0
    assert_same_bits(forward_and_gradients(problem), forward_and_gradients(copies))


@pytest.mark.parametrize("name", ["primes", "shared"])
@pytest.mark.usefixtures("backend")
def test_grad_output_in_another_layout(name: str) -> None:
    problem = problem_of(BY_NAME[name], torch.float32).map(lambda tensor: tensor.detach())
    expected = forward_and_gradients(problem)
    problem.grad_output = problem.grad_output.contiguous(memory_format=torch.channels_last)
    assert_same_bits(forward_and_gradients(problem), expected)


@pytest.mark.parametrize("name", ["rows_of_whole_quads", "primes", "shared"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.usefixtures("backend")
def test_grad_output_that_starts_anywhere_in_memory(name: str, dtype: torch.dtype) -> None:
    problem = problem_of(BY_NAME[name], dtype).map(lambda tensor: tensor.detach())
    expected = forward_and_gradients(problem)
    # As of torch.cat([a.flatten(), output.flatten()]): contiguous, but vector loads may not take it.
    problem.grad_output = LAYOUTS["storage_offset"](problem.grad_output)
    assert problem.grad_output.is_contiguous()
    assert_same_bits(forward_and_gradients(problem), expected)


@pytest.mark.parametrize("name", ["primes", "shared"])
@pytest.mark.usefixtures("backend")
def test_an_expanded_grad_output_of_a_sum(name: str) -> None:
    problem = problem_of(BY_NAME[name], torch.float32).map(lambda tensor: tensor.detach())
    problem.grad_output = torch.ones_like(problem.grad_output)
    expected = forward_and_gradients(problem)
    problem.grad_output = torch.ones(()).expand(problem.grad_output.shape)
    assert_same_bits(forward_and_gradients(problem), expected)


@pytest.mark.usefixtures("backend")
def test_arguments_are_not_written_to() -> None:
    problem = problem_of(BY_NAME["masks_bias_groups"], torch.float32)
    before = problem.map(torch.clone)
    forward_and_gradients(problem)
    assert_same_bits(problem.leaves(), before.leaves())
    assert torch.equal(problem.grad_output, before.grad_output)
