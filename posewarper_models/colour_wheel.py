"""Displacements as colours: the hue is the direction, the saturation the length."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from numpy.typing import NDArray

Array = NDArray[np.float64]


def coloured(displacement: Array, longest: float) -> Array:
    """RGB [H, W, 3] of displacements [2, H, W], (dy, dx) in pixels; white is no motion, ``longest`` the full colour.

    >>> coloured(np.zeros((2, 1, 1)), longest=5.0).tolist()
    [[[1.0, 1.0, 1.0]]]
    """
    dy, dx = displacement
    hue = np.arctan2(dy, dx) / (2 * np.pi) % 1
    saturation = np.clip(np.hypot(dy, dx) / longest, 0, 1)
    return np.asarray(hsv_to_rgb(np.stack([hue, saturation, np.full_like(hue, 1)], axis=-1)))


def draw_wheel(axes: Axes, longest: float, size: int = 257) -> None:
    """The legend: every displacement up to ``longest`` in its own place."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j] * longest
    wheel = coloured(np.stack([y, x]), longest)
    wheel = np.dstack([wheel, np.hypot(y, x) <= longest])
    axes.imshow(wheel, extent=(-longest, longest, longest, -longest))
    for angle in np.arange(4) * np.pi / 2:
        axes.plot([0, longest * np.cos(angle)], [0, longest * np.sin(angle)], color="black", linewidth=0.5, alpha=0.5)
    axes.text(0, -longest * 1.06, "up", ha="center", va="bottom")
    axes.text(0, longest * 1.06, f"down, {longest:.0f} px", ha="center", va="top")
    axes.text(-longest * 1.06, 0, "left", ha="right", va="center")
    axes.text(longest * 1.06, 0, "right", ha="left", va="center")
    axes.set(xlim=(-1.5 * longest, 1.5 * longest), ylim=(1.35 * longest, -1.35 * longest))
    axes.axis("off")
