"""Who is measured, as data: a name, how a workload is run, and why one cannot be."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch._functorch import config as functorch_config

import deformwarp
from benchmarks.grid_sample import grid_sample_warp
from benchmarks.workloads import Inputs, Workload
from deformwarp.backends import BACKENDS
from deformwarp.native import available_isas, current_isa

Warp = Callable[[Inputs], Tensor]
COMPILER = "inductor"


def _always(workload: Workload) -> str | None:
    return None


@dataclass(frozen=True)
class Peer:
    """One way to compute the warp."""

    name: str
    label: str
    make: Callable[[Workload], Warp]
    can_run: Callable[[Workload], str | None] = _always  # why it cannot, or None
    within: Callable[[], AbstractContextManager[object]] = nullcontext  # what surrounds its runs
    compiled: bool = False
    devices: tuple[str, ...] = ("cpu", "cuda")
    tolerance: dict[str, float] = field(default_factory=dict)  # by dtype, where it may differ from the gate's


def _fused(workload: Workload) -> Warp:
    def warp(inputs: Inputs) -> Tensor:
        return deformwarp.fused_deform_warp(
            inputs.input,
            inputs.offsets,
            inputs.weight,
            inputs.bias,
            dilations=workload.dilations,
            stride=workload.stride,
            masks=inputs.masks or None,
            scale=workload.scale,
        )

    return warp


def _no_avx2(workload: Workload) -> str | None:
    if "avx2" not in available_isas():
        return "this processor or this build has no AVX2"
    return "AVX2 is what deformwarp chooses here anyway" if current_isa() == "avx2" else None


def _torchvision(workload: Workload) -> Warp:
    from torchvision.ops import deform_conv2d

    def warp(inputs: Inputs) -> Tensor:
        total: Tensor | None = None
        for d, dilation in enumerate(workload.dilations):
            branch = deform_conv2d(
                inputs.input,
                inputs.offsets[d],
                inputs.weight[d],
                inputs.bias if d == 0 and workload.scale == 1 else None,
                stride=workload.stride,
                padding=workload.padding(d),
                dilation=dilation,
                mask=inputs.masks[d] if inputs.masks else None,
            )
            total = branch if total is None else total + branch
        assert total is not None
        if workload.scale != 1:
            total = total * workload.scale
            total = total if inputs.bias is None else total + inputs.bias.view(-1, 1, 1)
        return total

    return warp


def _no_torchvision(workload: Workload) -> str | None:
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return "torchvision is not installed"
    on_cpu = torch.get_default_device().type == "cpu"
    return "torchvision has no CPU kernel for bfloat16" if workload.dtype == "bfloat16" and on_cpu else None


def _no_triton(workload: Workload) -> str | None:
    if "triton" not in BACKENDS:
        return "this version has no Triton kernels"
    return BACKENDS["triton"].why_not_here()


def _no_grid(workload: Workload) -> str | None:
    if min(workload.height, workload.width) < 2:
        return "align_corners=True has no unit of length along a side of one pixel"
    return None


def _not_compiled(workload: Workload) -> str | None:
    return _no_grid(workload) if workload.compiled else "compiled for some workloads only, since it takes long"


def _keeping_buffers() -> AbstractContextManager[object]:
    """A compiled backward that may run more than once."""
    return functorch_config.patch(donated_buffer=False)


def _compiled(workload: Workload) -> Warp:
    # Without this the eighth shape of one function would run uncompiled.
    torch._dynamo.reset()
    return torch.compile(grid_sample_warp(workload), dynamic=False, fullgraph=True, backend=COMPILER)


PEERS = {
    peer.name: peer
    for peer in (
        # With positions in float16, up to 1/32 of a pixel off at 96 pixels, it is what people use: timed all the same.
        Peer("torchvision", "torchvision", _torchvision, _no_torchvision, tolerance={"float16": 0.1}),
        Peer("grid_sample", "grid_sample", grid_sample_warp, _no_grid),
        Peer(
            "grid_sample_compiled", "grid_sample, compiled", _compiled, _not_compiled, _keeping_buffers, compiled=True
        ),
        Peer("deformwarp", "deformwarp", _fused),
        Peer(
            "deformwarp_avx2",
            "deformwarp (AVX2)",
            _fused,
            _no_avx2,
            lambda: deformwarp.use_isa("avx2"),
            devices=("cpu",),
        ),
        Peer(
            "deformwarp_triton",
            "deformwarp (Triton)",
            _fused,
            _no_triton,
            lambda: deformwarp.use_backend("triton"),
            devices=("cuda",),
        ),
    )
}
GRID_SAMPLE = ("grid_sample", "grid_sample_compiled")
OURS = ("deformwarp", "deformwarp_avx2", "deformwarp_triton")


def peers_on(device: str) -> tuple[str, ...]:
    """The names of those that are measured on a device.

    >>> peers_on("cuda")[-1]
    'deformwarp_triton'
    """
    return tuple(name for name, peer in PEERS.items() if device in peer.devices)
