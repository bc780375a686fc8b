"""``python -m benchmarks.half_offsets``: what float16 and bfloat16 offsets cost, the table of docs/numerics.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deformwarp import FusedDeformWarp

BEGIN, END = "<!-- half_offsets:begin -->", "<!-- half_offsets:end -->"
DOCUMENT = Path(__file__).parent.parent / "docs/numerics.md"
JOINTS, SIGMA = 17, 3.0  # Gaussians of the paper's size, in heatmap pixels
SPREADS = (1.0, 4.0, 16.0)  # standard deviation of the offsets, pixels
HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Row:
    """One way of computing in fewer bits; errors against float64."""

    spread: float
    dtype: torch.dtype
    what: str
    position: float  # largest error of a sampling position, pixels
    output: float  # root mean square over that of the result
    peak: float  # largest displacement of a joint's centre of mass, pixels


def heatmaps(height: int, width: int) -> Tensor:
    """Gaussians of height 1 at random places, [1, J, H, W], float64."""
    centres = torch.rand(JOINTS, 2, dtype=torch.float64) * torch.tensor([height, width])
    y, x = torch.arange(height).view(-1, 1), torch.arange(width)
    squares = (y - centres[:, :1, None]) ** 2 + (x - centres[:, 1:, None]) ** 2
    return torch.exp(-squares / (2 * SIGMA**2)).unsqueeze(0)


def offset_fields(layer: FusedDeformWarp, height: int, width: int, spread: float) -> list[Tensor]:
    """Smooth random offsets, as convolutions predict them, float64."""
    coarse = torch.randn(len(layer.dilations), layer.offset_channels, height // 12 + 2, width // 12 + 2).double()
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    return [spread * one.unsqueeze(0) for one in smooth]


def with_rounded_positions(layer: FusedDeformWarp, offsets: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The offsets that lead to positions rounded to ``dtype``: what a kernel would do that computes them in it."""
    result = []
    for offset, dilation in zip(offsets, layer.dilations, strict=True):
        height, width = offset.shape[2:]
        tap = torch.arange(9)
        shift_y, shift_x = (tap // 3 - 1) * int(dilation), (tap % 3 - 1) * int(dilation)  # type: ignore[arg-type]
        base_y = shift_y.view(-1, 1, 1) + torch.arange(height).view(-1, 1)
        base_x = shift_x.view(-1, 1, 1) + torch.arange(width)
        base = torch.stack([base_y.expand(9, height, width), base_x.expand(9, height, width)], 1).double()
        position = base + offset.unflatten(1, (-1, 9, 2))
        result.append((position.to(dtype).double() - base).flatten(1, 3))
    return result


def centre(maps: Tensor) -> Tensor:
    """Centres of mass [J, 2] of heatmaps [1, J, H, W]."""
    mass = maps.sum((2, 3))
    y, x = torch.arange(maps.shape[2]).double(), torch.arange(maps.shape[3]).double()
    return torch.stack([(maps.sum(3) * y).sum(2) / mass, (maps.sum(2) * x).sum(2) / mass], -1)[0]


def rows(height: int = 96, width: int = 72, spreads: Sequence[float] = SPREADS) -> Iterator[Row]:
    """PoseWarper's warp with identity weights, in two ways a half type and spread."""
    layer = FusedDeformWarp(JOINTS, scale=1 / 5).double().requires_grad_(False)
    for spread in spreads:
        torch.manual_seed(0)
        image, offsets = heatmaps(height, width), offset_fields(layer, height, width, spread)
        exact = layer(image, offsets)
        for dtype in HALVES:
            rounded = [offset.to(dtype) for offset in offsets]
            half = FusedDeformWarp(JOINTS, scale=1 / 5).to(dtype).requires_grad_(False)
            ways = {
                "offsets": ([one.double() for one in rounded], None),
                "all tensors": ([one.double() for one in rounded], half(image.to(dtype), rounded).double()),
                "positions too": (with_rounded_positions(layer, [one.double() for one in rounded], dtype), None),
            }
            for what, (used, result) in ways.items():
                found = layer(image, used) if result is None else result
                yield Row(
                    spread,
                    dtype,
                    what,
                    max(float((one - other).abs().max()) for one, other in zip(used, offsets, strict=True)),
                    float((found - exact).square().mean().sqrt() / exact.square().mean().sqrt()),
                    float((centre(found) - centre(exact)).norm(dim=1).max()),
                )


def table(found: Sequence[Row]) -> str:
    """In Markdown."""
    lines = [
        "| offsets, px | type | rounded to it | position, px | result, relative | centre of a joint, px |",
        "| ---: | --- | --- | ---: | ---: | ---: |",
    ]
    for row in found:
        name = str(row.dtype).removeprefix("torch.")
        errors = f"{row.position:.1g} | {row.output:.1g} | {row.peak:.1g}"
        lines.append(f"| {row.spread:g} | {name} | {row.what} | {errors} |")
    return "\n".join(lines)


def replaced(text: str, new: str) -> str:
    """The document with another table between the marks."""
    head, found, rest = text.partition(BEGIN)
    _, also_found, tail = rest.partition(END)
    if not (found and also_found):
        raise ValueError(f"document: has no {BEGIN} ... {END}, where the table should go")
    return f"{head}{BEGIN}\n\n{new}\n\n{END}{tail}"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table, or writes it into the document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.half_offsets", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}")
    arguments = parser.parse_args(argv)
    new = table(list(rows()))
    print(new)
    if arguments.write:
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(encoding="utf-8"), new), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
