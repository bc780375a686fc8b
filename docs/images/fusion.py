"""Draws fusion.png, the README's picture: python docs/images/fusion.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from deformwarp.functional import DILATIONS

INK, GREY = "#1f2933", "#7b8794"
OFFSETS, MEMORY, WORK, RESULT = "#cfe3ff", "#ffd9cc", "#eef1f4", "#d3f2dc"


def box(ax: Axes, x: float, y: float, width: float, height: float, text: str, colour: str, size: float = 9) -> None:
    """A rounded box with its centre at (x, y)."""
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.12"
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=colour, edgecolor=INK, linewidth=0.9))
    ax.text(x, y, text, ha="center", va="center", fontsize=size, color=INK)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, linewidth=0.9, color=INK, shrinkA=0, shrinkB=0)
    )


def title(ax: Axes, text: str, note: str) -> None:
    ax.text(0, 6.75, text, fontsize=12.5, fontweight="bold", color=INK, va="center")
    ax.text(0, 6.25, note, fontsize=9.5, color=GREY, va="center")


def separate_calls(ax: Axes) -> None:
    title(ax, "Five calls and a sum", "samples go to memory and back; so does every partial result")
    for row, dilation in enumerate(DILATIONS):
        y = 5.25 - row * 1.1
        box(ax, 0.85, y, 1.7, 0.72, f"offsets\ndilation {dilation}", OFFSETS)
        box(ax, 2.75, y, 1.2, 0.72, "sample", WORK)
        box(ax, 4.75, y, 1.6, 0.92, "column\nbuffer", MEMORY)
        box(ax, 6.7, y, 1.3, 0.72, "multiply", WORK)
        box(ax, 8.55, y, 1.2, 0.82, "partial\nresult", MEMORY)
        for left, right in ((1.7, 2.15), (3.35, 3.95), (5.55, 6.05), (7.35, 7.95)):
            arrow(ax, (left, y), (right, y))
        arrow(ax, (9.15, y), (9.98, 3.05 + 0.13 * (2 - row)))
    box(ax, 10.25, 3.05, 0.55, 0.8, "+", WORK, 14)
    arrow(ax, (10.53, 3.05), (10.95, 3.05))
    box(ax, 11.55, 3.05, 1.2, 0.82, "result", RESULT)


def one_pass(ax: Axes) -> None:
    title(ax, "One fused pass", "every offset is read once; a tile of samples never leaves the cache")
    for row, dilation in enumerate(DILATIONS):
        y = 5.25 - row * 1.1
        box(ax, 0.85, y, 1.7, 0.72, f"offsets\ndilation {dilation}", OFFSETS)
        arrow(ax, (1.7, y), (2.75, 3.05 + 0.22 * (2 - row)))
    box(ax, 5.0, 3.05, 4.5, 2.1, "", "#ffffff")
    ax.text(5.0, 3.83, "a tile of pixels, in cache", ha="center", va="center", fontsize=9.5, color=GREY)
    box(ax, 3.95, 2.9, 1.5, 0.85, "sample", WORK)
    box(ax, 6.05, 2.9, 1.5, 0.85, "multiply,\nadd", WORK)
    arrow(ax, (4.7, 2.9), (5.3, 2.9))
    arrow(ax, (7.25, 3.05), (7.95, 3.05))
    box(ax, 8.55, 3.05, 1.2, 0.82, "result", RESULT)


def main() -> None:
    figure, axes = plt.subplots(1, 2, figsize=(13.2, 4.4), width_ratios=[12.3, 9.3])
    for ax, draw, width in zip(axes, (separate_calls, one_pass), (12.3, 9.3), strict=True):
        draw(ax)
        ax.set(xlim=(-0.1, width), ylim=(0.2, 7.1), aspect="equal")
        ax.axis("off")
    figure.subplots_adjust(left=0.01, right=0.995, bottom=0.01, top=0.99, wspace=0.06)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150, facecolor="white")


if __name__ == "__main__":
    main()
