"""Tensors of more than 2^31 elements. Memory that nobody writes costs nothing, so that most of them fit anywhere."""

from __future__ import annotations

import mmap

import pytest
import torch
from torch import Tensor

import deformwarp
from deformwarp import rules

BEYOND = 2**31 + 1000  # elements
MAP_NORESERVE = 0x4000  # Linux's; older Pythons do not name it


def untouched(count: int, dtype: torch.dtype) -> Tensor:
    """Zeros; pages take memory when they are written."""
    block = mmap.mmap(-1, count * dtype.itemsize, flags=mmap.MAP_PRIVATE | MAP_NORESERVE)
    return torch.frombuffer(block, dtype=dtype, count=count)


def test_samples_of_offsets_masks_and_input_may_lie_far_apart() -> None:
    """Two samples, the second 2^31 elements behind the first."""
    near = {"input": torch.rand(2, 2, 5, 4), "offset": torch.randn(2, 36, 5, 4), "mask": torch.rand(2, 18, 5, 4)}
    far = {}
    for name, tensor in near.items():
        n, *rest = tensor.shape
        memory = untouched(BEYOND + tensor[0].numel(), torch.float32)
        far[name] = memory.as_strided((n, *rest), (BEYOND, *tensor.stride()[1:])).copy_(tensor)
    weight = torch.rand(3, 2, 3, 3)

    def results(tensors: dict[str, Tensor]) -> list[Tensor]:
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
        output = deformwarp.deform_conv2d(leaves["input"], leaves["offset"], weight, padding=1, mask=leaves["mask"])
        return [output, *torch.autograd.grad(output.square().sum(), list(leaves.values()))]

    for ours, expected in zip(results(far), results(near), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.slow
def test_an_input_of_more_than_2_to_31_elements() -> None:
    """One output pixel a sample: only the input is large. The last sample is not zero."""
    side = 300
    samples = -(-BEYOND // side**2)
    input = untouched(samples * side**2, torch.float16).view(samples, 1, side, side)
    input[-1, 0, -1, -1] = 3.0
    assert input.numel() > 2**31
    offset = torch.zeros(samples, 2, 1, 1, dtype=torch.float16)
    offset[-1] = side - 1  # from the first pixel to the last
    output = deformwarp.deform_conv2d(input, offset, torch.full((1, 1, 1, 1), 2.0, dtype=torch.float16), stride=side)
    assert output.shape == (samples, 1, 1, 1)
    assert output[-1].item() == 6.0
    assert output[:-1].count_nonzero() == 0


@pytest.mark.slow
def test_offsets_of_more_than_2_to_31_elements() -> None:
    """One branch of a large kernel: the last tap of the last pixel is moved to where the only light is."""
    kernel, side = 33, 1001
    taps = kernel * kernel
    offset = untouched(2 * taps * side * side, torch.bfloat16).view(1, 2 * taps, side, side)
    assert offset.numel() > 2**31
    input = torch.zeros(1, 1, side, side, dtype=torch.bfloat16)
    input[0, 0, 0, 0] = 1.0
    last = side - 1 + kernel // 2  # where the last tap of the last pixel looks without an offset
    weight = torch.zeros(1, 1, kernel, kernel, dtype=torch.bfloat16)
    weight[..., -1, -1] = 1.0
    offset[0, -2:, -1, -1] = -last
    assert float(offset[0, -1, -1, -1]) == -last
    output = deformwarp.deform_conv2d(input, offset, weight, padding=kernel // 2)
    assert output[0, 0, -1, -1].item() == 1.0
    assert output.sum().item() == 1.0


def test_sizes_of_problems_of_any_size_are_exact() -> None:
    shapes = [(70_000, 256, 32_000, 32_000), (70_000, 2 * 256 * 9, 32_000, 32_000), (1, 64, 256, 3, 3)]
    input, offset, weight = (torch.empty(shape, device="meta", dtype=torch.float16) for shape in shapes)
    problem = rules.Problem(input, [offset], [], weight, None, [1, 1], [3, 3], [3, 3])
    rules.check(problem)
    assert problem.output_shape == (70_000, 64, 32_000, 32_000)
    assert deformwarp.deform_conv2d(input, offset, weight[0], padding=3, dilation=3).numel() == 70_000 * 64 * 32_000**2
