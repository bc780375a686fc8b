"""What the compiler makes of the Triton kernels for GPUs that need not be there: registers, spills, instructions.

``python -m benchmarks.triton_figures`` compiles the kernels for every target, and writes the figures of the installed
Triton to ``results/triton-figures.json``; those of other versions stay. With ``--check`` it compares instead.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from benchmarks.workloads import MODES, Mode, Workload
from deformwarp.functional import DILATIONS
from deformwarp.triton import launch
from deformwarp.triton.plan import Device

TABLE = Path(__file__).parent / "results" / "triton-figures.json"
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Target:
    """A GPU to compile for."""

    gpu: GPUTarget
    device: Device


TARGETS = {
    "sm_80": Target(GPUTarget("cuda", 80, 32), Device("cuda", "80", 108)),
    "sm_90": Target(GPUTarget("cuda", 90, 32), Device("cuda", "90", 132)),
    "sm_100": Target(GPUTarget("cuda", 100, 32), Device("cuda", "100", 148)),
    "gfx90a": Target(GPUTarget("hip", "gfx90a", 64), Device("hip", "gfx90a", 104)),
    "gfx942": Target(GPUTarget("hip", "gfx942", 64), Device("hip", "gfx942", 304)),
}


@dataclass(frozen=True)
class Launch:
    """A kernel with its arguments."""

    kernel: Any
    arguments: tuple[Any, ...]
    warps: int
    constants: dict[str, Any]

    def samples_of_a_lane(self, lanes: int) -> int | None:
        """Bilinear samples of one round of a planar kernel's loop."""
        if "STRIPS" not in self.constants:
            return None
        size = self.constants["TAPS"] * self.constants["STRIPS"] * self.constants["LANES"]
        return int(size) // (lanes * self.warps)


@dataclass(frozen=True)
class Figures:
    """Of one kernel on one GPU. Smaller is better, but for matrix instructions."""

    registers: int  # of a thread
    spilled_bytes: int  # of a thread's registers, to memory
    shared_bytes: int  # of a block
    instructions_a_sample: float | None  # in the main loop; where it can be told
    matrix_instructions: int  # in the code

    def worse_than(self, other: Figures) -> list[str]:
        """The figures that are worse, in words."""
        found = []
        for field in fields(self):
            mine, others = getattr(self, field.name), getattr(other, field.name)
            if mine != others and (mine is None or others is None or (mine < others) == (field.name[:6] == "matrix")):
                found.append(f"{field.name}: {mine}, was {others}")
        return found


def launches(run: Callable[[], object], device: Device) -> list[Launch]:
    """What a call would launch on a device, given tensors on ``meta``."""
    found: list[Launch] = []

    def record(kernel: Any, programs: int, *arguments: Any, warps: int = 4, **constants: Any) -> None:
        found.append(Launch(kernel, arguments, warps, constants))

    with mock.patch.object(launch, "call", record), mock.patch.object(launch, "device_of", return_value=device):
        run()
    return found


def compiled(one: Launch, gpu: GPUTarget) -> Any:
    """Ahead of time, specialised for its arguments as Triton does it at a call."""
    backend = make_backend(gpu)
    bind = create_function_from_signature(one.kernel.signature, one.kernel.params, backend)
    keywords = {**one.constants, "num_warps": one.warps, **launch.OPTIONS, "debug": False}
    bound, specialization, options = bind(*one.arguments, **keywords)
    options, signature, constants, attributes = one.kernel._pack_args(backend, keywords, bound, specialization, options)
    source = ASTSource(one.kernel, signature, constants, attributes)
    return triton.compile(source, target=gpu, options=options.__dict__)


def figures_of(one: Launch, target: Target) -> Figures:
    """Compiles a launch, and reads the machine code."""
    kernel = compiled(one, target.gpu)
    read = _of_nvidia if target.gpu.backend == "cuda" else _of_amd
    return read(kernel, one.samples_of_a_lane(target.gpu.warp_size))


def _of_nvidia(kernel: Any, samples: int | None) -> Figures:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = _printed("cuobjdump", "--dump-resource-usage", file.name)
        code = _printed("nvdisasm", "--print-code", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", usage)
    assert found is not None, usage
    registers, stack, local = map(int, found.groups())
    matrix = re.compile(r"\b(HMMA|HGMMA|UTC\w*MMA)\b")
    instructions, loops = instructions_and_loops(code)
    main = [instructions[first:last] for first, last in loops]
    main = sorted((body for body in main if any(map(matrix.search, body))), key=len)
    return Figures(
        registers,
        stack + local,
        kernel.metadata.shared,
        round(len(main[0]) / samples, 2) if samples and main else None,
        sum(1 for instruction in instructions if matrix.search(instruction)),
    )


def _of_amd(kernel: Any, samples: int | None) -> Figures:
    code = kernel.asm["amdgcn"]

    def noted(name: str) -> int:
        found = re.search(rf"\.{name}:\s+(\d+)", code)
        assert found is not None, name
        return int(found[1])

    # Scalar registers that move to vector registers are not counted: they reach no memory.
    shared, matrix = kernel.metadata.shared, len(re.findall(r"\bv_mfma_", code))
    return Figures(noted("vgpr_count"), 4 * noted("vgpr_spill_count"), shared, None, matrix)


def _printed(tool: str, *arguments: str) -> str:
    return subprocess.run([TOOLS / tool, *arguments], check=True, capture_output=True, text=True, timeout=600).stdout


def instructions_and_loops(code: str) -> tuple[list[str], list[tuple[int, int]]]:
    """The instructions of a disassembly, and first and last + 1 of every loop: what a branch backwards encloses."""
    labels: dict[str, int] = {}
    instructions: list[str] = []
    loops = []
    for line in code.splitlines():
        if label := re.match(r"\s*(\.L_\w+):", line):
            labels[label[1]] = len(instructions)
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?)\s*;", line):
            instructions.append(instruction[1])
            branch = re.search(r"\bBRA\b.*`\((\.L_\w+)\)", instruction[1])
            if branch and branch[1] in labels:
                loops.append((labels[branch[1]], len(instructions)))
    return instructions, loops


POSEWARPER = Workload("posewarper", "figures", 16, 17, 17, 96, 72, 17, DILATIONS, scale=0.2)
RESNET = Workload("resnet", "figures", 16, 64, 64, 56, 56, 1)
CALLS = tuple(
    (replace(workload, dtype=dtype), MODES[mode])
    for workload, dtype in ((POSEWARPER, "float32"), (POSEWARPER, "float16"), (RESNET, "float16"))
    for mode in ("forward", "backward")
)


def run(workload: Workload, mode: Mode) -> None:
    """The backend's forward, or its backward, on sizes alone."""
    shapes = {
        name: torch.empty(shape, dtype=workload.torch_dtype, device="meta") for name, shape in workload.shapes.items()
    }
    tensors = (shapes["input"], [shapes["offsets"]] * workload.branches, [], shapes["weight"])
    geometry = (
        [workload.stride] * 2,
        [side for branch in range(workload.branches) for side in workload.padding(branch)],
        [dilation for dilation in workload.dilations for _ in range(2)],
        workload.scale,
    )
    if mode.gradients:
        launch.warp_backward(shapes["output"], *tensors, *geometry, True, True, False, True)
    else:
        launch.warp(*tensors, None, *geometry)


def all_figures(target: Target) -> Iterator[tuple[str, Figures]]:
    """Name and figures of every kernel that computes samples in the calls."""
    for workload, mode in CALLS:
        for one in launches(partial(run, workload, mode), target.device):
            if one.kernel.__name__.startswith(("planar", "shared")):
                yield f"{one.kernel.__name__}, {workload.name}, {workload.dtype}", figures_of(one, target)


def recorded(table: Path = TABLE, version: str = triton.__version__) -> dict[str, dict[str, Figures]]:
    """What the table holds for a version of Triton, by target and name; nothing for a version that is not in it."""
    if not table.exists():
        return {}
    found = json.loads(table.read_text()).get(version, {})
    return {target: {name: Figures(**one) for name, one in named.items()} for target, named in found.items()}


def record(found: dict[str, dict[str, Figures]], table: Path = TABLE, version: str = triton.__version__) -> None:
    """Replaces what the table holds for a version of Triton."""
    content = json.loads(table.read_text()) if table.exists() else {}
    content[version] = {target: {name: asdict(one) for name, one in named.items()} for target, named in found.items()}
    table.write_text(json.dumps(content, indent=1) + "\n")


def faults(found: dict[str, Figures], expected: dict[str, Figures]) -> list[str]:
    """What must not be, in words: spills, products without matrix instructions, and what is worse than expected."""
    said = []
    for name, figures in found.items():
        if figures.spilled_bytes > 0:
            said.append(f"{name}: {figures.spilled_bytes} bytes of registers are spilled")
        if figures.matrix_instructions == 0:
            said.append(f"{name}: no matrix instructions")
        if name in expected:
            said += [f"{name}: {worse}" for worse in figures.worse_than(expected[name])]
    return said


def main() -> int:
    """Compiles everything; writes the table, or compares with it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.triton_figures", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the table instead of writing it")
    options = parser.parse_args()
    found: dict[str, dict[str, Figures]] = {}
    before, said = recorded(), []
    for target_name, target in TARGETS.items():
        found[target_name] = {}
        for name, figures in all_figures(target):
            found[target_name][name] = figures
            print(f"{target_name} {name}: {figures}", flush=True)
        said += [f"{target_name} {fault}" for fault in faults(found[target_name], before.get(target_name, {}))]
    if not options.check:
        record(found)
    sys.stdout.writelines(f"{fault}\n" for fault in said)
    return 1 if options.check and said else 0


if __name__ == "__main__":
    sys.exit(main())
