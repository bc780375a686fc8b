"""Small problems for compute-sanitizer: every path of the CUDA kernels once, and its results against the CPU kernels.

Tensors are made on the CPU and copied, so that no other kernels run than ours.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

import deformwarp
from benchmarks.calls import call
from benchmarks.peers import PEERS
from benchmarks.workloads import HALF_AND_FLOAT, MODES, Workload, make_inputs
from deformwarp.accuracy import TOLERANCE
from deformwarp.functional import DILATIONS

PLANAR = Workload("planar", "sanitized", 2, 3, 5, 12, 16, 3, DILATIONS, offsets="random")
SHARED = Workload("shared", "sanitized", 2, 8, 6, 7, 9, 2, (1, 2), groups=2, masked=True, offsets="random")
WORKLOADS = (
    *(replace(PLANAR, samples=samples, dtype=dtype) for samples in (1, 2) for dtype in HALF_AND_FLOAT),
    replace(PLANAR, width=15, masked=True),  # what the planar kernels do not take
    SHARED,
    replace(SHARED, dtype="float64", stride=2),
    replace(SHARED, channels=130, out_channels=70, groups=1, offset_groups=1, samples=1, dtype="float16"),
)


def largest_error(workload: Workload, device: str) -> float:
    """Of output and gradients on the device, relative to those of the CPU kernels, in Frobenius norms."""
    peer, mode = PEERS["deformwarp"], MODES["backward"]
    warp, inputs = peer.make(workload), make_inputs(workload)
    expected = call(peer, warp, inputs.for_mode(mode), mode)
    with deformwarp.use_backend(device):  # of the same name; another one, in its place, would be checked for nothing
        actual = call(peer, warp, inputs.map(lambda tensor: tensor.to(device)).for_mode(mode), mode)
    pairs = [(actual.output, expected.output)]
    pairs += [(actual.gradients[name], gradient) for name, gradient in expected.gradients.items()]
    return max(float((got.cpu().double() - want.double()).norm() / want.double().norm()) for got, want in pairs)


def main(device: str = "cuda") -> int:
    """Prints a line for each problem; 1 if a result is wrong."""
    wrong = 0
    for workload in WORKLOADS:
        error = largest_error(workload, device)
        is_right = error <= 2 * TOLERANCE[workload.torch_dtype]  # both sides may be off
        wrong += not is_right
        sys.stdout.write(
            f"{workload.name}, N={workload.samples}, {workload.dtype}: {error:.1e}{'' if is_right else ' WRONG'}\n"
        )
    if device == "cuda":
        torch.cuda.synchronize()
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
