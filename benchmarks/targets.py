"""What deformwarp promises, as data: how many times as fast as whom."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.peers import GRID_SAMPLE


@dataclass(frozen=True)
class Target:
    """``peer`` takes at most 1 / ``at_least`` of the time of the fastest of ``over``."""

    workload: str
    mode: str
    over: tuple[str, ...]
    at_least: float
    peer: str = "deformwarp"

    def __str__(self) -> str:
        return f"{self.workload}-{self.mode}-{self.peer}-over-{self.over[0]}"


TORCHVISION = ("torchvision",)
POSEWARPER = ("posewarper-384x288-n1", "posewarper-384x288-n4")
TARGETS = (
    *(Target(name, "forward", TORCHVISION, 25) for name in POSEWARPER),
    *(Target(name, "forward", GRID_SAMPLE, 8) for name in POSEWARPER),
    *(Target(name, "backward", TORCHVISION, 60) for name in POSEWARPER),
    *(Target(name, "backward", GRID_SAMPLE, 6) for name in POSEWARPER),
    *(Target(name, "backward", TORCHVISION, 45, "deformwarp_avx2") for name in POSEWARPER),
    Target("resnet-dcn-64-56", "forward", TORCHVISION, 1),
    Target("resnet-dcn-64-56", "backward", TORCHVISION, 1),
)
