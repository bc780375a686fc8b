"""The table of all figures, for readers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from benchmarks.cuda_figures.banks import CELL_BYTES
from benchmarks.cuda_figures.library import Resources
from benchmarks.cuda_figures.prediction import CHIPS, ELEMENTS, KINDS, instance_for, plan_of
from benchmarks.cuda_figures.table import Figures
from benchmarks.workloads import GPU_WORKLOADS
from deformwarp.native import CudaDevice, CudaLaunch

REGISTERS = 65536  # of a multiprocessor
REGISTER_UNIT = 256  # a warp has a multiple
MOST_WARPS = {75: 32, 120: 48}  # of a multiprocessor; 64 elsewhere


def warps_by_registers(registers: int, architecture: int = 90) -> int:
    """Warps for which a multiprocessor has registers; its four parts have equally many.

    >>> warps_by_registers(128), warps_by_registers(129), warps_by_registers(32), warps_by_registers(32, 120)
    (16, 12, 64, 48)
    """
    unit = -(-max(registers, 1) * 32 // REGISTER_UNIT) * REGISTER_UNIT
    return min(MOST_WARPS.get(architecture, 64), REGISTERS // unit // 4 * 4)


def _rows(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, marks, *lines))


def _resource_table(figures: Figures) -> str:
    """Registers on each architecture, with the bytes of stack and spills where there are any."""
    architectures = sorted({one.architecture for one in figures.resources})
    by_kernel: dict[str, dict[int, Resources]] = {}
    for one in figures.resources:
        by_kernel.setdefault(one.kernel, {})[one.architecture] = one

    def cell(one: Resources | None) -> str:
        if one is None:
            return "-"
        memory = f" + {one.stack + one.local} B" if one.stack + one.local else ""
        return f"{one.registers}{memory} ({warps_by_registers(one.registers, one.architecture)})"

    lines = [
        [f"`{kernel}`", *(cell(found.get(architecture)) for architecture in architectures)]
        for kernel, found in by_kernel.items()
    ]
    return _rows(["kernel", *(f"sm_{architecture}" for architecture in architectures)], lines)


def blocks_at_once(registers: int, launch: CudaLaunch, device: CudaDevice) -> int:
    """Of one multiprocessor, by shared memory, threads and registers."""
    return min(
        device.shared_bytes_per_multiprocessor // (launch.shared_bytes + device.shared_bytes_reserved_per_block),
        device.threads_per_multiprocessor // launch.threads,
        warps_by_registers(registers) * 32 // launch.threads,
    )


def launches(kernels: Collection[str], device: CudaDevice) -> Iterator[tuple[str, CudaLaunch, str]]:
    """PoseWarper's launches: what each is called, its sizes, and which of the kernels it runs.

    Raises:
        LookupError: none of the kernels is for a launch.
    """
    for samples in (1, 16):
        for dtype in ELEMENTS:
            workload = GPU_WORKLOADS[f"posewarper-384x288-n{samples}-{dtype}"]
            for kind in KINDS:
                for launch in plan_of(workload, kind, device).launches:
                    title = f"N={samples} {dtype} {kind.mode}: `{launch.kernel}`"
                    kernel = instance_for(workload, kind, launch.kernel, kernels)
                    if kernel is None:
                        raise LookupError(f"{title}: none of {', '.join(kernels)}")
                    yield title, launch, kernel


def _launch_table(figures: Figures) -> str:
    """Blocks and occupancy of PoseWarper's launches on a full sm_90."""
    device, lines = CHIPS[0].device, []
    registers = {one.kernel: one.registers for one in figures.resources if one.architecture == 90}
    for title, launch, kernel in launches(registers, device):
        at_once = blocks_at_once(registers[kernel], launch, device)
        numbers = (launch.blocks, launch.threads, launch.shared_bytes, at_once)
        occupancy = f"{100 * at_once * launch.threads / device.threads_per_multiprocessor:.0f} %"
        lines.append([title, *map(str, numbers), occupancy])
    header = ["launch", "blocks", "threads", "shared bytes", "blocks at once", "occupancy"]
    return _rows(header, lines)


def _prediction_table(figures: Figures) -> str:
    def milliseconds(seconds: float) -> str:
        return f"{1e3 * seconds:.3f}"

    lines = [
        [
            f"{one.chip} {one.workload} {one.mode}",
            milliseconds(one.memory),
            milliseconds(one.issue),
            milliseconds(one.shared),
            f"{one.rounds:.2f}",
            milliseconds(one.seconds),
            one.limit,
            f"{100 * one.share_of_floor:.0f} %",
        ]
        for one in figures.predictions
    ]
    header = [
        "workload",
        "memory, ms",
        "instructions, ms",
        "shared memory, ms",
        "rounds",
        "at best, ms",
        "limit",
        "of floor",
    ]
    return _rows(header, lines)


def markdown(figures: Figures) -> str:
    """For readers."""
    loops = [
        [
            f"`{loop.kernel}`",
            f"sm_{loop.architecture}",
            str(loop.instructions),
            str(loop.samples),
            f"{loop.per_sample:.1f}",
        ]
        for loop in figures.loops
    ]
    banks = [
        [
            offsets,
            *(f"{number:.1f}" for by_size in (found.forward, found.backward) for number in by_size.values()),
            f"{found.additions:.1f}",
            f"{found.wide_additions:.1f}",
        ]
        for offsets, found in figures.conflicts.items()
    ]
    loads = [f"{kernel}, {size} B" for kernel in ("forward", "backward") for size in CELL_BYTES]
    chips = "; ".join(
        f"{chip.name}: {chip.copy_bandwidth / 1e12:.1f} TB/s, {chip.device.multiprocessors} multiprocessors at "
        f"{chip.clock / 1e9:.1f} GHz, {chip.issues_per_clock} instructions and {chip.wavefronts_per_clock} wavefront "
        "a clock"
        for chip in CHIPS
    )
    parts = [
        "# Figures of the CUDA kernels, without a GPU",
        f"Written by `python -m benchmarks.cuda_figures` from a build by nvcc {figures.nvcc}. "
        "Nothing here was measured on a GPU.",
        "## Registers a thread",
        "Beside them the bytes of stack and spills where there are any, and in brackets the warps for which a "
        "multiprocessor has registers.",
        _resource_table(figures),
        "## Launches of PoseWarper's warp, 384x288, on sm_90 with 132 multiprocessors",
        "Blocks at once on a multiprocessor, by shared memory, threads and registers.",
        _launch_table(figures),
    ]
    if loops:
        parts += [
            "## Main loops of the fast paths",
            "Machine instructions of the shortest turn that does all the work, and the samples that a thread computes "
            "in it.",
            _rows(["kernel", "architecture", "instructions", "samples", "a sample"], loops),
            "## Shared memory",
            "Simulated wavefronts of a warp for its 32 samples: the loads of cells of 8 and 16 bytes (2.0 and 4.0 "
            "without conflicts), and the additions of grad_input (4 words, or 8 for float32).",
            _rows(["offsets", *loads, "additions", "additions, float32"], banks),
            "## Predictions",
            f"The largest of three times, each as if alone. Taken for granted: {chips}. Left out: filling the planes, "
            "latencies, launches.",
            _prediction_table(figures),
        ]
    return "\n\n".join(parts) + "\n"
