"""Training in mixed precision, and what half precision does to positions."""

from __future__ import annotations

import math

import pytest
import torch

import deformwarp
from benchmarks import half_offsets

half_types = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])


@half_types
@pytest.mark.parametrize("memory", ["normal", "low"])
@pytest.mark.slow
def test_a_head_learns_for_200_steps_under_autocast_and_a_scaler(dtype: torch.dtype, memory: str) -> None:
    torch.manual_seed(0)
    head = deformwarp.WarpHead(4, 2, dilations=(1, 2), scale=0.5, offset_bias=True, memory=memory)
    features, image = torch.randn(2, 4, 8, 8), torch.rand(2, 2, 8, 8)
    target = image.roll(1, 3)  # one pixel to the right
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14, growth_interval=50, enabled=dtype == torch.float16)
    losses = []
    for _ in range(200):
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype):
            output = head(features, image)
        assert output.dtype == dtype
        loss = torch.nn.functional.mse_loss(output.float(), target)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        losses.append(loss.item())
    assert all(map(math.isfinite, losses))
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in head.parameters())
    assert scaler.get_scale() >= 1
    assert losses[-1] < losses[0] / 4


def test_a_gradient_that_overflows_is_not_finite_so_that_the_scaler_skips_its_step() -> None:
    head = deformwarp.WarpHead(4, 2, dilations=(1, 2))
    optimiser = torch.optim.SGD(head.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    before = [parameter.clone() for parameter in head.parameters()]
    with torch.autocast("cpu", torch.float16):
        output = head(torch.randn(1, 4, 8, 8), torch.rand(1, 2, 8, 8))
    scaler.scale(output.sum()).backward()
    scaler.step(optimiser)
    scaler.update()
    assert scaler.get_scale() == 2.0**23
    assert all(torch.equal(one, other) for one, other in zip(head.parameters(), before, strict=True))


@half_types
def test_positions_are_not_rounded_to_the_tensors_type(dtype: torch.dtype) -> None:
    """Near column 200 float16 has steps of 1/8, bfloat16 of 1: an offset of 1/4 would be off, or lost."""
    offset = torch.zeros(1, 2, 1, 256, dtype=dtype)
    offset[:, 1] = 0.25
    step = torch.zeros(1, 1, 1, 256, dtype=dtype)
    step[..., 201:] = 1  # a sample between columns 200 and 201 is its fraction
    output = deformwarp.deform_conv2d(step, offset, torch.ones(1, 1, 1, 1, dtype=dtype))
    assert output[0, 0, 0, 200] == 0.25


@half_types
def test_autocast_does_not_round_offsets_of_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = deformwarp.FusedDeformWarp(2, dilations=(1, 2))
    image, offsets = torch.rand(1, 2, 7, 6), [3 * torch.randn(1, layer.offset_channels, 7, 6) for _ in range(2)]
    expected = layer(image, offsets)
    with torch.autocast("cpu", dtype):
        assert torch.equal(layer(image, offsets), expected)
        assert torch.equal(layer(image.to(dtype).float(), offsets), layer(image.to(dtype), offsets))


@pytest.fixture(scope="module")
def study() -> dict[tuple[torch.dtype, str], half_offsets.Row]:
    return {(row.dtype, row.what): row for row in half_offsets.rows(spreads=(4.0,))}


def test_the_study_agrees_with_the_spacing_of_the_types(study: dict[tuple[torch.dtype, str], half_offsets.Row]) -> None:
    # Offsets of sigma 4 reach at least 8 and stay below 32.
    for dtype, bits in ((torch.float16, 11), (torch.bfloat16, 8)):
        assert 2.0 ** (2 - bits) < study[dtype, "offsets"].position <= 2.0 ** (4 - bits)


@half_types
def test_rounded_positions_would_be_worse(
    dtype: torch.dtype, study: dict[tuple[torch.dtype, str], half_offsets.Row]
) -> None:
    assert study[dtype, "positions too"].output > 4 * study[dtype, "all tensors"].output


def test_the_documents_table_is_the_studys() -> None:
    text = half_offsets.DOCUMENT.read_text(encoding="utf-8")
    table = text.partition(half_offsets.BEGIN)[2].partition(half_offsets.END)[0]
    assert table.count("\n| ") == 2 + len(half_offsets.SPREADS) * len(half_offsets.HALVES) * 3
    assert half_offsets.replaced(text, table.strip()) == text


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="document: has no <!-- half_offsets:begin -->"):
        half_offsets.replaced("text", "table")
