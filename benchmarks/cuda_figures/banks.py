"""Conflicts of the planar kernels' reads and additions in shared memory, simulated bank by bank for PoseWarper's shape.

Shared memory serves 32 banks of 4 bytes at a time, one wavefront. A warp's load of 16 bytes a thread is served eight
threads after another; threads of one turn that want different words of one bank wait for each other, those that want
the same word do not. Additions to one word wait for each other too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads import WORKLOADS, Workload, make_inputs

Cells = NDArray[np.int64]
CELL_BYTES = (8, 16)
OFFSETS = ("zero", "smooth", "random")
SHAPE = replace(WORKLOADS["posewarper-384x288-n1"], channels=1, out_channels=1, offset_groups=1)
SUM_ROW, SUM_COLUMN = (0, 0, 1, 1), (0, 1, 0, 1)  # of a sample's four sums


@dataclass(frozen=True)
class Samples:
    """Where the samples of one channel lie: cells by number, [taps, pixels], as csrc/cuda/cell_plane.h has them."""

    cells: Cells
    touches: NDArray[np.bool_]  # the image
    pitch: int


def samples_of(offsets: str, workload: Workload = SHAPE, seed: int = 0) -> Samples:
    """Taps are ordered with the dilation fastest, docs/mathematics.md (2) and (3)."""
    height, width = workload.height, workload.width
    inputs = make_inputs(replace(workload, offsets=offsets), seed)
    rows, columns = np.mgrid[:height, :width]
    cells, touches = [], []
    for tap in range(workload.taps):
        for branch, dilation in enumerate(workload.dilations):
            offset = inputs.offsets[branch][0, 2 * tap : 2 * tap + 2].double().numpy()
            (i, j), (top, left) = divmod(tap, workload.kernel[1]), workload.padding(branch)
            y = np.floor(rows + (dilation * i - top) + offset[0]) + 1
            x = np.floor(columns + (dilation * j - left) + offset[1]) + 1
            outside_y, outside_x = ((n < 0) | (n > size) for n, size in ((y, height), (x, width)))
            y, x = np.where(outside_y, height + 1, y), np.where(outside_x, width + 1, x)
            cells.append((y * (width + 2) + x).astype(np.int64).ravel())
            touches.append(~(outside_y | outside_x).ravel())
    return Samples(np.stack(cells), np.stack(touches), width + 2)


def forward_warps(per_sample: NDArray[np.generic]) -> NDArray[np.generic]:
    """[taps, pixels] as [loads, 32]: a thread has four pixels in a row; four neighbours share them, a tap each."""
    taps, pixels = per_sample.shape
    whole = per_sample[: taps // 4 * 4].reshape(taps // 4, 4, pixels // 32, 8, 4)
    return whole.transpose(0, 2, 4, 3, 1).reshape(-1, 32)


def backward_warps(per_sample: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same where four neighbours have one of eight taps, and a thread four of their sixteen pixels."""
    taps, pixels = per_sample.shape
    whole = per_sample[: taps // 8 * 8].reshape(taps // 8, 8, pixels // 16, 4, 4)
    return whole.transpose(0, 2, 4, 1, 3).reshape(-1, 32)


def load_wavefronts(words: Cells, size: int) -> float:
    """Wavefronts of a warp's load, the mean over [loads, 32] words of ``size`` bytes.

    >>> load_wavefronts(np.arange(32)[None], 16), load_wavefronts(np.zeros((1, 32), int), 16)
    (4.0, 4.0)
    >>> load_wavefronts(np.arange(32)[None] * 8, 16)
    32.0
    """
    banks = 128 // size
    turns = np.sort(words.reshape(-1, banks), axis=1)
    first = np.diff(turns, axis=1, prepend=-1) != 0
    wanted = np.stack([(first & (turns % banks == bank)).sum(1) for bank in range(banks)])
    return float(wanted.max(0).sum() / len(words))


def addition_wavefronts(words: Cells, active: NDArray[np.bool_], size: int) -> float:
    """Wavefronts of a warp's addition to 4-byte words that lie ``size`` bytes apart, the mean over [additions, 32].

    >>> addition_wavefronts(np.arange(32)[None], np.ones((1, 32), bool), 4)
    1.0
    >>> addition_wavefronts(np.zeros((1, 32), int), np.ones((1, 32), bool), 4)
    32.0
    """
    bank = words * (size // 4) % 32
    wanted = np.stack([(active & (bank == number)).sum(1) for number in range(32)])
    return float(wanted.max(0).mean())


@dataclass(frozen=True)
class Conflicts:
    """Mean wavefronts of a warp for 32 samples."""

    forward: dict[int, float]  # by the bytes of a cell
    backward: dict[int, float]
    additions: float  # of all four sums, 4 bytes apart
    wide_additions: float  # of both halves of all four, 8 bytes apart


def conflicts(offsets: str, seed: int = 0) -> Conflicts:
    """Of PoseWarper's shape with offsets that are zero, smooth or random."""
    samples = samples_of(offsets, seed=seed)
    forward, backward = forward_warps(samples.cells), backward_warps(samples.cells)
    touches = backward_warps(samples.touches)
    sums = [backward + row * samples.pitch + column for row, column in zip(SUM_ROW, SUM_COLUMN, strict=True)]
    return Conflicts(
        {size: load_wavefronts(forward, size) for size in CELL_BYTES},
        {size: load_wavefronts(backward, size) for size in CELL_BYTES},
        sum(addition_wavefronts(words, touches, 4) for words in sums),
        2 * sum(addition_wavefronts(words, touches, 8) for words in sums),
    )
