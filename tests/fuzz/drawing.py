"""Trial number n: everything about it follows from n."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

import torch
from problems import DTYPES, Case, Pair

from deformwarp.native import available_isas
from deformwarp.rules import output_size

Option = TypeVar("Option")

LARGEST_WORK = 40_000  # bilinear samples: some hundredths of a second for the reference
LAYOUTS = ("dense", "channels_last", "part", "repeated")


@dataclass(frozen=True)
class Trial:
    """One problem, and how it is put to the kernels."""

    number: int
    case: Case
    dtype: torch.dtype
    isa: str
    threads: int
    layouts: tuple[str, ...]  # taken in turn by the tensors
    wanted: float  # share of the tensors whose gradients are asked for
    special: float  # share of the offsets that are whole, huge, infinite or NaN


def _mostly(random: Random, usual: Sequence[Option], seldom: Sequence[Option], share: float = 0.12) -> Option:
    return random.choice(seldom if random.random() < share else usual)


def _divisor(random: Random, number: int) -> int:
    return random.choice([part for part in range(1, number + 1) if number % part == 0])


def _branches(random: Random, size: Pair, kernel: Pair, stride: Pair) -> tuple[list[Pair], list[Pair]]:
    """Dilations and paddings whose outputs have one size, of at least one pixel; none if the first has not."""

    def branch() -> tuple[Pair, Pair]:
        dilation = [_mostly(random, (1, 1, 2, 3, 6), (12, 24, 1000)) for _ in kernel]
        same = [d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True)]
        padding = [_mostly(random, (p, p, p + 1, max(p - 1, 0)), (0, 3 * p + 2)) for p in same]
        return (dilation[0], dilation[1]), (padding[0], padding[1])

    def out(dilation: Pair, padding: Pair) -> list[int]:
        return [output_size(*numbers) for numbers in zip(size, kernel, stride, padding, dilation, strict=True)]

    first = branch()
    if min(out(*first)) < 1:
        return [], []
    others = [branch() for _ in range(random.choice((0, 1, 2, 5, 8)))]
    fitting = [first, *(one for one in others if out(*one) == out(*first))]
    return [dilation for dilation, _ in fitting], [padding for _, padding in fitting]


def _case(random: Random, number: int) -> Case | None:
    kernel = tuple(_mostly(random, (1, 2, 3, 3, 3, 5), (4, 7, 11)) for _ in range(2))
    size = tuple(_mostly(random, range(1, 14), (16, 31, 32, 33, 65, 130)) for _ in range(2))
    stride = tuple(_mostly(random, (1, 1, 1, 2), (3, 5, 100)) for _ in range(2))
    groups = _mostly(random, (1, 1, 1, 2, 3), (5, 8))
    channels = groups * _mostly(random, (1, 2, 3, 4, 6), (8, 17, 33))
    dilations, paddings = _branches(random, size, kernel, stride)  # type: ignore[arg-type]
    if not dilations:
        return None
    case = Case(
        f"fuzz-{number}",
        channels,
        groups * random.randint(1, 5),
        size,  # type: ignore[arg-type]
        _mostly(random, (1, 1, 2, 3), (0, 7)),
        kernel,  # type: ignore[arg-type]
        tuple(dilations),
        tuple(paddings),
        stride,  # type: ignore[arg-type]
        groups,
        random.choice((None, 1, _divisor(random, channels))),
        random.random() < 0.4,
        random.random() < 0.4,
        random.choice((1.0, 0.2, -3.5)),
        random.choice((0.01, 2.0, 20.0)),
    )
    height, width = case.out_size
    work = case.batch * channels * len(dilations) * kernel[0] * kernel[1] * height * width
    return case if work <= LARGEST_WORK else None


def drawn(number: int) -> Trial:
    """The trial of that number, always the same one on one processor.

    >>> drawn(7) == drawn(7), drawn(7) == drawn(8)
    (True, False)
    """
    random = Random(number)
    case = None
    while case is None:
        case = _case(random, number)
    return Trial(
        number,
        case,
        random.choice(DTYPES),
        random.choice(available_isas()),
        random.choice((1, 1, 2, 4)),
        tuple(random.choice(LAYOUTS) for _ in range(random.randint(1, 4))),
        random.choice((1.0, 1.0, 0.5)),
        random.choice((0.0, 0.1, 0.9)),
    )
