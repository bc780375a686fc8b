"""One forward and two backwards of PoseWarper's shape in each dtype, for ncu."""

from __future__ import annotations

import sys

import torch

from benchmarks.calls import call
from benchmarks.peers import PEERS
from benchmarks.workloads import GPU_WORKLOADS, HALF_AND_FLOAT, MODES, Workload, make_inputs

WORKLOADS = tuple(GPU_WORKLOADS[f"posewarper-384x288-n16-{dtype}"] for dtype in HALF_AND_FLOAT)


def run(workload: Workload, device: str) -> None:
    """The forward without gradients, the backward of all of them, and the one with the input frozen."""
    peer = PEERS["deformwarp"]
    warp, inputs = peer.make(workload), make_inputs(workload, device=device)
    for mode in ("forward", "backward", "frozen"):
        call(peer, warp, inputs.for_mode(MODES[mode]), MODES[mode])


def main() -> int:
    """Runs on the GPU."""
    for workload in WORKLOADS:
        run(workload, "cuda")
    torch.cuda.synchronize()
    return 0


if __name__ == "__main__":
    sys.exit(main())
