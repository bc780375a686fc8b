"""Prints the peak extra memory, in bytes, of one call: run by tests in a process of its own.

glibc is told (MALLOC_MMAP_THRESHOLD_) to give every allocation of a page or more a mapping of its own, so that the size
of the address space is the sum of live allocations. Its peak is the kernel's own count (VmPeak), exact to a page, and
sees every allocator of the process: the kernels' malloc, torch's, and the stacks of threads.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

import deformwarp


def _status(field: str) -> int:
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def peak_extra_bytes(call: Callable[[], object]) -> int:
    """The growth of the address space during the call, its result excluded if the caller subtracts it."""
    # The peak cannot be reset; the present can be raised to it.
    filler = mmap.mmap(-1, _status("VmPeak") - _status("VmSize") + 2**20, flags=mmap.MAP_PRIVATE)
    before = _status("VmPeak")
    assert before == _status("VmSize")
    result = call()
    peak = _status("VmPeak") - before
    del result
    filler.close()
    return peak


def _posewarper(samples: int, height: int, width: int) -> tuple[Tensor, list[Tensor], Tensor]:
    offsets = [torch.randn(samples, 2 * 17 * 9, height, width) for _ in range(5)]
    return torch.rand(samples, 17, height, width), offsets, torch.rand(5, 17, 17, 3, 3)


def _peaks_of_head(samples: int) -> tuple[int, int]:
    """Forward and backward with normal and with low memory, on PoseWarper's shape.

    The offsets come from convolutions of one pixel without oneDNN, plain matrix products: the scratch memory of others
    has nothing to do with the head.
    """
    head = deformwarp.WarpHead(8, 17)
    for d in range(5):
        head.offset_convs[d] = nn.Conv2d(8, head.warp.offset_channels, 1)
    features = torch.rand(samples, 8, 96, 72, requires_grad=True)
    heatmap = torch.rand(samples, 17, 96, 72, requires_grad=True)
    wanted = (features, heatmap, *head.parameters())

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(head(features, heatmap).sum(), wanted)

    def peak(memory: Literal["normal", "low"]) -> int:
        head.memory = memory
        with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
            gradients()
            return peak_extra_bytes(gradients) - sum(tensor.nbytes for tensor in wanted)

    return peak("normal"), peak("low")


def main(what: str, samples: int, threads: int) -> None:
    torch.set_num_threads(threads)
    if what == "head":
        print(*_peaks_of_head(samples))
        return
    input, offsets, weight = _posewarper(samples, 96, 72)
    with torch.no_grad():
        warm_up = _posewarper(2, 24, 18)
        for _ in range(3):  # threads, their arenas, lazy imports
            deformwarp.fused_deform_warp(*warm_up)
        if what == "nothing":
            peak = peak_extra_bytes(lambda: None)
        elif what == "control":
            peak = peak_extra_bytes(lambda: torch.empty_like(input))
        else:
            peak = peak_extra_bytes(lambda: deformwarp.fused_deform_warp(input, offsets, weight)) - input.nbytes
    print(peak, input.nbytes)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
