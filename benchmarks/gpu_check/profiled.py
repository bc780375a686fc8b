"""One forward and two backwards of PoseWarper's shape in each dtype, for ncu, which profiles these calls alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from benchmarks.calls import prepared
from benchmarks.peers import PEERS
from benchmarks.workloads import GPU_WORKLOADS, HALF_AND_FLOAT, MODES, Workload, make_inputs

WORKLOADS = tuple(GPU_WORKLOADS[f"posewarper-384x288-n16-{dtype}"] for dtype in HALF_AND_FLOAT)
CALLS = ("forward", "backward_alone", "backward_alone_frozen")


def run(workload: Workload, device: str, within: Callable[[], AbstractContextManager[object]]) -> None:
    """The forward without gradients, the backward of all of them, and the one with the input frozen, each ``within``
    what tells ncu."""
    peer = PEERS["deformwarp"]
    warp, inputs = peer.make(workload), make_inputs(workload, device=device)
    for mode in (MODES[name] for name in CALLS):
        measured = prepared(peer, warp, inputs.for_mode(mode), mode)
        with within():
            measured()


def main() -> int:
    """Runs on the GPU."""
    for workload in WORKLOADS:
        run(workload, "cuda", torch.cuda.profiler.profile)
    torch.cuda.synchronize()
    return 0


if __name__ == "__main__":
    sys.exit(main())
