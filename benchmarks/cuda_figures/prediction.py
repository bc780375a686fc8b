"""The least time of the planar kernels that bytes, instructions and shared memory allow: a model, not a measurement.

Each of the three would take its time alone, the largest is the prediction. Blocks are dealt out in whole rounds. Left
out: filling the planes, latencies that nothing hides, launches, and what additions in shared memory cost beyond their
wavefronts, which is the largest unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from benchmarks.cuda_figures.banks import CELL_BYTES, Conflicts
from benchmarks.cuda_figures.loops import Turn
from benchmarks.workloads import GPU_WORKLOADS, MODES, Workload
from deformwarp import rules
from deformwarp.native import CudaDevice, CudaPlan, cuda_plan

ELEMENTS = {"float32": "float", "float16": "Half", "bfloat16": "BFloat16"}


@dataclass(frozen=True)
class Chip:
    """What a prediction takes for granted; sm_90 in its full size."""

    name: str
    copy_bandwidth: float  # bytes a second, read and written
    clock: float = 1.8e9  # under load
    device: CudaDevice = field(default_factory=CudaDevice)
    issues_per_clock: int = 4  # warp instructions of a multiprocessor
    wavefronts_per_clock: int = 1  # of a multiprocessor's shared memory


#: Bandwidths as device-to-device copies reached them, the clock about what such chips hold; none by this library.
CHIPS = (Chip("H200", 4.3e12), Chip("H100", 3.0e12))


@dataclass(frozen=True)
class Kind:
    """A kernel and the mode of the benchmark that it does the work of."""

    mode: str
    kernel: str
    suffix: str  # of its template arguments
    additions: bool = False


KINDS = (
    Kind("forward", "planar_forward", ""),
    Kind("backward_alone_frozen", "planar_backward", ", false"),
    Kind("backward_alone", "planar_backward", ", true", additions=True),
)


def problem_of(workload: Workload) -> rules.Problem:
    """Its sizes, for plans."""

    def empty(name: str) -> torch.Tensor:
        return torch.empty(workload.shapes[name], dtype=workload.torch_dtype, device="meta")

    paddings = [n for branch in range(workload.branches) for n in workload.padding(branch)]
    dilations = [n for dilation in workload.dilations for n in (dilation, dilation)]
    offsets = [empty("offsets") for _ in workload.dilations]
    stride = [workload.stride] * 2
    return rules.Problem(empty("input"), offsets, [], empty("weight"), None, stride, paddings, dilations)


def plan_of(workload: Workload, kind: Kind, device: CudaDevice) -> CudaPlan:
    """The launches of a mode."""
    if kind.mode == "forward":
        return cuda_plan(problem_of(workload), device)
    return cuda_plan(problem_of(workload), device, backward=True, input=kind.additions)


def samples_of_turn(turn: Turn, element_bytes: int) -> int:
    """That a thread computes in one turn: each has two offsets, and nothing else is read past the first-level cache."""
    return turn.bits("LDG", "NA") // (2 * 8 * element_bytes)


def cell_bytes(turn: Turn, samples: int) -> int:
    """Of a cell, the widest load in shared memory of which there is one for each sample."""
    return max((size for size in CELL_BYTES if turn.bits("LDS", str(8 * size)) >= samples * 8 * size), default=16)


def wavefronts_of_turn(turn: Turn, samples: int, kind: Kind, conflicts: Conflicts, wide: bool) -> float:
    """Of a warp, for each of its threads' samples: cells with their conflicts, everything else without any."""
    size = cell_bytes(turn, samples)
    loads = turn.bits("LDS") + turn.bits("STS") + turn.bits("LDGSTS") - samples * 8 * size
    cells = (conflicts.forward if kind.mode == "forward" else conflicts.backward)[size]
    additions = (conflicts.wide_additions if wide else conflicts.additions) if kind.additions else 0.0
    return cells + additions + loads / 32 / samples


@dataclass(frozen=True)
class Prediction:
    """Seconds, and what decides."""

    chip: str
    workload: str
    mode: str
    offsets: str
    memory: float
    issue: float
    shared: float
    rounds: float  # how much longer whole rounds of blocks take than shares of one

    @property
    def seconds(self) -> float:
        """The prediction."""
        return max(self.memory, self.rounds * self.issue, self.rounds * self.shared)

    @property
    def limit(self) -> str:
        """What decides."""
        times = {
            "memory": self.memory,
            "instructions": self.rounds * self.issue,
            "shared memory": self.rounds * self.shared,
        }
        return max(times, key=lambda name: times[name])

    @property
    def share_of_floor(self) -> float:
        """The memory's time over the prediction: what the targets speak of, at best."""
        return self.memory / self.seconds


def predict(chip: Chip, workload: Workload, kind: Kind, turn: Turn, conflicts: Conflicts) -> Prediction | None:
    """None where the planar kernels do not take the workload."""
    plan = plan_of(workload, kind, chip.device)
    launches = [launch for launch in plan.launches if launch.kernel == kind.kernel]
    if not launches:
        return None
    per_turn = samples_of_turn(turn, workload.torch_dtype.itemsize)
    height, width = workload.out_size
    total = workload.samples * workload.branches * workload.channels * workload.taps * height * width
    warp_samples = total / 32 / chip.device.multiprocessors
    wide = workload.dtype == "float32"
    blocks = launches[0].blocks
    return Prediction(
        chip.name,
        workload.name,
        kind.mode,
        workload.offsets,
        workload.bytes_moved(MODES[kind.mode]) / chip.copy_bandwidth,
        warp_samples * turn.instructions / per_turn / chip.issues_per_clock / chip.clock,
        warp_samples
        * wavefronts_of_turn(turn, per_turn, kind, conflicts, wide)
        / chip.wavefronts_per_clock
        / chip.clock,
        -(-blocks // chip.device.multiprocessors) * chip.device.multiprocessors / blocks,
    )


def predictions(turns: Mapping[str, Turn], conflicts: Mapping[str, Conflicts]) -> list[Prediction]:
    """For PoseWarper's workloads at 384x288; ``turns`` by kernel's readable name."""
    found = []
    for workload in GPU_WORKLOADS.values():
        if workload.group != "posewarper" or workload.height != 96:
            continue
        for kind in KINDS:
            turn = turn_for(workload, kind, turns)
            if turn is not None:
                found += [predict(chip, workload, kind, turn, conflicts[workload.offsets]) for chip in CHIPS]
    return [one for one in found if one is not None]


def turn_for(workload: Workload, kind: Kind, turns: Mapping[str, Turn]) -> Turn | None:
    """The main loop of the instance that the workload runs."""
    name = instance_for(workload, kind, kind.kernel, turns)
    return None if name is None else turns[name]


def instance_for(workload: Workload, kind: Kind, kernel: str, names: Iterable[str]) -> str | None:
    """Of a kernel's instances the one for the workload's element, tiles of eight output channels, and gradients.

    >>> workload = GPU_WORKLOADS["posewarper-384x288-n1-float32"]
    >>> names = ["planar_forward<HalfSampler, 3>", "planar_forward<FloatSampler<float>, 4>", "planar_finish<float>"]
    >>> instance_for(workload, KINDS[0], "planar_forward", [*names, "planar_forward<FloatSampler<float>, 3>"])
    'planar_forward<FloatSampler<float>, 3>'
    >>> instance_for(workload, KINDS[1], "planar_finish", names)
    'planar_finish<float>'
    """
    element, tiles = ELEMENTS[workload.dtype], str(-(-workload.out_channels // 8))
    for name in names:
        of_kernel, _, arguments = name.rstrip(">").partition("<")
        words = arguments.replace(">", "").replace("<", ", ").split(", ")
        is_for = {element, f"{element}Sampler"} & set(words) and all(word == tiles for word in words if word.isdigit())
        flags_fit = kernel != kind.kernel or arguments.endswith(kind.suffix)
        if of_kernel == kernel and is_for and flags_fit:
            return name
    return None
