"""Draws offset_order.png, the picture of docs/offsets.md: python docs/images/offset_order.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

INK, GREY, DY, DX = "#1f2933", "#c3ccd5", "#c2410c", "#1d4ed8"
MOVED = {0: (-0.35, 0.3), 2: (0.3, -0.4), 4: (0.45, 0.55), 7: (0.0, -0.42)}  # tap: (dy, dx)


def kernel(ax: Axes) -> None:
    """Nine taps on a grid of pixels; some are moved."""
    for row in range(3):
        for column in range(3):
            ax.add_patch(Rectangle((column, row), 1, 1, facecolor="none", edgecolor=GREY))
            tap = 3 * row + column
            x, y = column + 0.5, row + 0.5
            ax.plot(x, y, "o", color=INK, markersize=4)
            ax.text(x - 0.42, y - 0.28, f"tap {tap}", fontsize=9, color=INK)
            dy, dx = MOVED.get(tap, (0, 0))
            if dy or dx:
                ax.annotate("", (x, y + dy), (x, y), arrowprops={"arrowstyle": "->", "color": DY, "lw": 1.6})
                ax.annotate("", (x + dx, y + dy), (x, y + dy), arrowprops={"arrowstyle": "->", "color": DX, "lw": 1.6})
    ax.set(xlim=(-0.1, 3.1), ylim=(3.1, -0.1), aspect="equal", title="where the taps of one pixel look")
    ax.axis("off")


def channels(ax: Axes) -> None:
    """The channels of the offset tensor, in order."""
    for channel in range(18):
        tap, is_dx = divmod(channel, 2)
        ax.add_patch(Rectangle((0, channel), 1, 1, facecolor=DX if is_dx else DY, edgecolor="white", alpha=0.85))
        ax.text(0.5, channel + 0.5, "dx" if is_dx else "dy", ha="center", va="center", color="white", fontsize=8)
        ax.text(-0.15, channel + 0.5, str(channel), ha="right", va="center", fontsize=8, color=INK)
        if not is_dx:
            ax.text(1.2, channel + 1, f"tap {tap}", va="center", fontsize=9, color=INK)
    ax.text(0.5, 18.9, "next group …", ha="center", fontsize=8, color=INK)
    ax.set(xlim=(-0.8, 2.4), ylim=(19.2, -0.3), title="channels of one group")
    ax.axis("off")


def main() -> None:
    """Writes the picture beside this file."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 4.6), width_ratios=(3, 1.5), layout="constrained")
    kernel(left)
    channels(right)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    main()
