"""float16 and bfloat16: every bit pattern survives, and results are rounded as PyTorch rounds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import deformwarp

pytestmark = pytest.mark.usefixtures("backend")
half_types = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
layouts = pytest.mark.parametrize("channels", [1, 2], ids=["planar", "shared"])


def _all_patterns(dtype: torch.dtype) -> Tensor:
    return torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)


def _assert_same(actual: Tensor, expected: Tensor) -> None:
    """Equal, and NaN where NaN is expected."""
    assert torch.equal(actual.isnan(), expected.isnan())
    assert torch.equal(actual[~actual.isnan()], expected[~expected.isnan()])


def _identity(input: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """A 1x1 warp of one offset group that should not change anything."""
    samples, channels, height, width = input.shape
    weight = torch.eye(channels, dtype=input.dtype).reshape(channels, channels, 1, 1)
    offset = torch.zeros(samples, 2, height, width, dtype=input.dtype)
    return deformwarp.deform_conv2d(input, offset, weight, bias, mask=mask)


@half_types
def test_every_finite_or_nan_input_survives(dtype: torch.dtype) -> None:
    patterns = _all_patterns(dtype)
    patterns = patterns[~patterns.isinf()].reshape(-1, 1, 1, 1)
    _assert_same(_identity(patterns), patterns)


@half_types
@layouts
def test_an_infinite_input_is_never_a_finite_sample(dtype: torch.dtype, channels: int) -> None:
    image = torch.ones(2, channels, 1, 1, dtype=dtype)
    image[0] = torch.inf
    output = _identity(image)
    assert not output[0].isfinite().any()
    assert torch.equal(output[1], image[1])


@half_types
@layouts
@pytest.mark.parametrize("width", [256, 257], ids=["whole_vectors", "with_tails"])
def test_every_mask_survives(dtype: torch.dtype, channels: int, width: int) -> None:
    patterns = _all_patterns(dtype)
    masks = torch.cat([patterns, patterns[: -len(patterns) % width]]).reshape(-1, 1, 1, width)
    output = _identity(torch.ones(len(masks), channels, 1, width, dtype=dtype), mask=masks)
    masks = masks.expand_as(output)
    if channels > 1:  # the identity weighs the other channels by 0, and 0 times infinity is NaN
        output, masks = output[masks.isfinite()], masks[masks.isfinite()]
    _assert_same(output, masks)


@half_types
def test_every_bias_survives(dtype: torch.dtype) -> None:
    patterns = _all_patterns(dtype)
    weight = torch.zeros(len(patterns), 1, 1, 1, dtype=dtype)
    output = deformwarp.deform_conv2d(
        torch.ones(1, 1, 1, 1, dtype=dtype), torch.zeros(1, 2, 1, 1, dtype=dtype), weight, patterns
    )
    _assert_same(output.flatten(), patterns)


@half_types
def test_every_weight_survives(dtype: torch.dtype) -> None:
    patterns = _all_patterns(dtype)
    output = deformwarp.deform_conv2d(
        torch.ones(1, 1, 1, 1, dtype=dtype),
        torch.zeros(1, 2, 1, 1, dtype=dtype),
        patterns.reshape(-1, 1, 1, 1),
    )
    _assert_same(output.flatten(), patterns)


def _products(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """All finite numbers, each with a random factor: two [65536, 1, 1, 1], whose products are exact in float32."""
    random = torch.Generator().manual_seed(1)
    patterns = _all_patterns(dtype)
    exponents = torch.randint(-8, 8, (65536,), generator=random, device="cpu")
    mantissas = torch.randint(129, 256, (65536,), generator=random, device="cpu") / 128
    factors = torch.ldexp(mantissas, exponents).to(patterns)
    return torch.where(patterns.isfinite(), patterns, 1).reshape(-1, 1, 1, 1), factors.reshape(-1, 1, 1, 1)


@half_types
def test_results_are_rounded_to_the_nearest_even(dtype: torch.dtype) -> None:
    values, factors = _products(dtype)
    exact = values.float() * factors.float()
    _assert_same(_identity(values, mask=factors), exact.to(dtype))


@half_types
def test_ties_are_among_the_tested_roundings(dtype: torch.dtype) -> None:
    values, factors = _products(dtype)
    exact = values.double() * factors.double()
    rounded = exact.to(dtype)
    neighbour = torch.where(exact > rounded.double(), rounded.view(torch.int16) + 1, rounded.view(torch.int16) - 1)
    ties = (neighbour.view(dtype).double() - exact).abs() == (rounded.double() - exact).abs()
    assert (ties & (exact != rounded) & (exact > 0)).sum() > 50


@half_types
@layouts
@pytest.mark.parametrize("width", [256, 257], ids=["whole_vectors", "with_tails"])
def test_gradients_are_rounded_to_the_nearest_even(dtype: torch.dtype, channels: int, width: int) -> None:
    grad_output = torch.zeros(4, channels, 16, width, dtype=dtype)
    grad_output[:, 0] = torch.randn(4, 16, width, generator=torch.Generator().manual_seed(2), device="cpu").to(dtype)
    mask = torch.ones(4, 1, 16, width, dtype=dtype, requires_grad=True)
    output = deformwarp.fused_deform_warp(
        torch.ones(4, channels, 16, width, dtype=dtype),
        [torch.zeros(4, 2, 16, width, dtype=dtype)],
        torch.eye(channels, dtype=dtype).reshape(1, channels, channels, 1, 1),
        dilations=[1],
        masks=[mask],
        scale=1 / 3,
    )
    (by_mask,) = torch.autograd.grad(output, mask, grad_output)
    assert torch.equal(by_mask[:, 0], (grad_output[:, 0].float() * (1 / 3)).to(dtype))
