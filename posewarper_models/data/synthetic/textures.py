"""Procedural textures: noise, patterns of clothes, heads, backgrounds. All RGB uint8."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from posewarper_models.video import Image

Colour = NDArray[np.float64]  # [3], RGB, 0..255
Mask = NDArray[np.float64]  # [H, W], 0..1

# Directions around a body part: column 0 of a strip faces the back, the middle column the front.
SKIN = np.array([(255, 224, 196), (241, 194, 160), (224, 172, 125), (184, 128, 88), (141, 85, 52), (92, 58, 40)], float)
HAIR = np.array([(28, 22, 20), (60, 40, 26), (110, 72, 40), (176, 140, 84), (150, 66, 34), (150, 150, 150)], float)


def noise(rng: np.random.Generator, height: int, width: int, coarsest: int, octaves: int = 4) -> Mask:
    """Noise of several scales [H, W] in [0, 1]; ``coarsest`` is the longest wave in pixels."""
    total = np.zeros((height, width))
    weight = 0.0
    for octave in range(octaves):
        cell = max(coarsest / 2**octave, 1.0)
        grid = rng.random((int(height / cell) + 2, int(width / cell) + 2))
        large = cv2.resize(grid, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        total += 0.6**octave * large[:height, :width]
        weight += 0.6**octave
    return np.clip((total / weight - 0.5) * 1.8 + 0.5, 0, 1)


def any_colour(rng: np.random.Generator) -> Colour:
    """A colour of everyday things: seldom saturated."""
    grey = rng.uniform(20, 235)
    return np.clip(grey + rng.normal(0, 35, 3), 8, 250)


def mixed(first: Colour, second: Colour, share: Mask) -> Image:
    """``second`` where the share is 1, ``first`` where it is 0: [H, W, 3]."""
    return np.clip(first + share[..., None] * (second - first), 0, 255).astype(np.uint8)


def _grid(height: int, width: int) -> tuple[Mask, Mask]:
    y, x = np.mgrid[:height, :width].astype(float)
    return y / height, x / width


def _plain(rng: np.random.Generator, height: int, width: int) -> Mask:
    return noise(rng, height, width, 24) * 0.3


def _rings(rng: np.random.Generator, height: int, width: int) -> Mask:
    y, _ = _grid(height, width)
    return np.asarray(np.sin(2 * np.pi * y * rng.uniform(2, 5)) > rng.uniform(-0.4, 0.6), float)


def _lengthwise(rng: np.random.Generator, height: int, width: int) -> Mask:
    _, x = _grid(height, width)
    return np.asarray(np.sin(2 * np.pi * x * rng.integers(5, 12)) > rng.uniform(-0.4, 0.6), float)


def _checks(rng: np.random.Generator, height: int, width: int) -> Mask:
    y, x = _grid(height, width)
    return 0.5 * ((y * rng.integers(3, 7)) % 1 > 0.5) + 0.5 * ((x * rng.integers(6, 12)) % 1 > 0.5)


def _dots(rng: np.random.Generator, height: int, width: int) -> Mask:
    y, x = _grid(height, width)
    rows, columns = rng.integers(4, 8), rng.integers(8, 14)
    dy, dx = (y * rows) % 1 - 0.5, (x * columns + 0.5 * (np.floor(y * rows) % 2)) % 1 - 0.5
    return np.asarray(dy**2 + dx**2 < rng.uniform(0.04, 0.1), float)


def _blotches(rng: np.random.Generator, height: int, width: int) -> Mask:
    return np.asarray(noise(rng, height, width, 16) > 0.5, float)


PATTERNS: tuple[Callable[[np.random.Generator, int, int], Mask], ...] = (
    _plain,
    _plain,
    _rings,
    _lengthwise,
    _checks,
    _dots,
    _blotches,
)


class Cloth:
    """A fabric: a pattern and two colours; :meth:`strip` cuts pieces of it."""

    def __init__(self, rng: np.random.Generator, contrast: float) -> None:
        self.pattern = PATTERNS[rng.integers(len(PATTERNS))]
        self.colour = any_colour(rng)
        self.second = self.colour + contrast * rng.uniform(0.15, 1.0) * (any_colour(rng) - self.colour)
        self.seed = int(rng.integers(2**32))

    def strip(self, rng: np.random.Generator, height: int, width: int) -> Image:
        """What wraps a body part: [height along it, width around it, 3]."""
        share = self.pattern(np.random.default_rng(self.seed), height, width)
        wrinkles = 1 + 0.25 * (noise(rng, height, width, 14) - 0.5)
        return np.clip(mixed(self.colour, self.second, share) * wrinkles[..., None], 0, 255).astype(np.uint8)


def skin_strip(rng: np.random.Generator, skin: Colour, height: int, width: int) -> Image:
    """Bare skin."""
    return mixed(skin * 0.92, skin * 1.05, noise(rng, height, width, 20))


def shirt_strip(rng: np.random.Generator, cloth: Cloth, height: int, width: int) -> Image:
    """A trunk: cloth with a print or a row of buttons in front, sometimes something on the back."""
    strip = cloth.strip(rng, height, width)
    middle, colour = width // 2, any_colour(rng).tolist()
    kind = rng.integers(4)
    if kind == 0:
        cv2.line(strip, (middle, 0), (middle, height), colour, max(width // 48, 1))
        for y in range(height // 10, height, max(height // 6, 1)):
            cv2.circle(strip, (middle, y), max(width // 40, 1), colour, -1)
    elif kind == 1:
        size = (width // 10, height // 6)
        cv2.ellipse(strip, (middle, height * 2 // 3), size, 0, 0, 360, colour, -1)
        cv2.ellipse(
            strip, (middle, height * 2 // 3), (size[0] // 2, size[1] // 2), 0, 0, 360, any_colour(rng).tolist(), -1
        )
    elif kind == 2:
        cv2.rectangle(strip, (0, height // 2), (width // 8, height * 4 // 5), colour, -1)
        cv2.rectangle(strip, (width - width // 8, height // 2), (width, height * 4 // 5), colour, -1)
    return strip


def head_strip(rng: np.random.Generator, skin: Colour, height: int, width: int) -> Image:
    """A head: hair behind and on top, a face in front. Row 0 is the chin."""
    hair = HAIR[rng.integers(len(HAIR))] * rng.uniform(0.8, 1.2)
    strip = skin_strip(rng, skin, height, width)
    y, x = _grid(height, width)
    hairline = rng.uniform(0.72, 0.8)
    long = rng.uniform(0.0, 0.45)  # how far down it reaches behind
    behind = np.abs(x - 0.5) > rng.uniform(0.22, 0.27)
    covered = (y > hairline) | (behind & (y > long))
    strands = mixed(hair * 0.8, hair * 1.15, noise(rng, height, width, 6))
    strip[covered] = strands[covered]
    if rng.random() < 0.2:  # a cap
        strip[y > hairline - 0.05] = any_colour(rng)

    def at(across: float, up: float) -> tuple[int, int]:
        return round((0.5 + across) * width), round(up * height)

    thickness, dark = max(width // 64, 1), (40, 26, 22)
    for side in (-1, 1):
        cv2.ellipse(
            strip, at(0.065 * side, 0.55), (max(width // 40, 1), max(height // 26, 1)), 0, 0, 360, (245, 245, 240), -1
        )
        cv2.circle(strip, at(0.065 * side, 0.55), max(width // 72, 1), dark, -1)
        cv2.line(strip, at(0.035 * side, 0.64), at(0.1 * side, 0.65), (hair * 0.7).tolist(), thickness)
        cv2.ellipse(
            strip,
            at(0.25 * side, 0.5),
            (max(width // 36, 1), max(height // 12, 1)),
            0,
            0,
            360,
            (skin * 0.85).tolist(),
            -1,
        )
    cv2.ellipse(strip, at(0, 0.44), (max(width // 44, 1), max(height // 11, 1)), 0, 0, 360, (skin * 0.8).tolist(), -1)
    cv2.line(strip, at(-0.055, 0.24), at(0.055, 0.24), (170, 70, 70), thickness)
    return strip


def background(rng: np.random.Generator, height: int, width: int) -> Image:
    """A place: a wall or a landscape above, ground below, and clutter that can be mistaken for limbs."""
    scale = height / 180
    wall = mixed(any_colour(rng), any_colour(rng), noise(rng, height, width, int(rng.uniform(30, 120) * scale), 5))
    ground = mixed(any_colour(rng), any_colour(rng), noise(rng, height * 3, width, int(rng.uniform(16, 60) * scale), 5))
    horizon = int(height * rng.uniform(0.55, 0.8))
    # Ground that recedes: its texture is squeezed towards the horizon.
    rows = (np.linspace(0, 1, height - horizon) ** 0.5 * (ground.shape[0] - 1)).astype(int)
    wall[horizon:] = ground[rows]
    if rng.random() < 0.5:
        _windows(rng, wall, horizon)
    for _ in range(rng.integers(4, 16)):
        start = np.array([rng.uniform(0, width), rng.uniform(0.1, 0.95) * height])
        angle, length = rng.uniform(0, np.pi), rng.uniform(0.08, 0.35) * height
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        colour = any_colour(rng) if rng.random() < 0.6 else SKIN[rng.integers(len(SKIN))]
        ends = [tuple(int(v) for v in point) for point in (start, end)]
        cv2.line(wall, ends[0], ends[1], colour.tolist(), max(int(rng.uniform(2, 12) * scale), 1), cv2.LINE_AA)
    for _ in range(rng.integers(2, 8)):
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        size = (max(int(rng.uniform(3, 16) * scale), 1), max(int(rng.uniform(3, 22) * scale), 1))
        cv2.ellipse(wall, centre, size, rng.uniform(0, 180), 0, 360, any_colour(rng).tolist(), -1, cv2.LINE_AA)
    return wall


def _windows(rng: np.random.Generator, wall: Image, horizon: int) -> None:
    height, width = wall.shape[:2]
    rows, columns = rng.integers(1, 4), rng.integers(3, 8)
    colour = any_colour(rng)
    for row in range(rows):
        for column in range(columns):
            x, y = int((column + 0.25) * width / columns), int((row + 0.25) * horizon / rows)
            corner = (x + int(0.5 * width / columns), y + int(0.5 * horizon / rows))
            cv2.rectangle(wall, (x, y), corner, (colour * rng.uniform(0.7, 1.2)).clip(0, 255).tolist(), -1)
            cv2.rectangle(wall, (x, y), corner, (colour * 0.5).tolist(), 1)
