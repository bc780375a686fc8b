"""``python -m benchmarks.run``: measures all peers on the workloads and keeps the results."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import machine, report
from benchmarks.calls import prepared
from benchmarks.device import DEVICES, Device, file_name
from benchmarks.gate import Gate, WrongResultError
from benchmarks.peers import PEERS, Peer, Warp, peers_on
from benchmarks.results import Measurement, ModeResult, Results, WorkloadResult, save
from benchmarks.timing import Plan, interleaved
from benchmarks.workloads import GROUPS, MODES, Inputs, Mode, Workload, make_inputs, select

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How a run measures."""

    threads: int
    plan: Plan
    modes: tuple[str, ...] = tuple(MODES)
    peers: tuple[str, ...] = peers_on("cpu")
    memory: bool = True
    seed: int = 0
    device: str = "cpu"
    seconds: float | None = None  # no workload is begun after them

    @property
    def measured_on(self) -> Device:
        """The device itself."""
        return DEVICES[self.device]


def _admit(peer: Peer, workload: Workload, mode: Mode, inputs: Inputs, gate: Gate) -> tuple[Measurement, Warp | None]:
    """The peer's line in the table, and how to run it if its numbers are right."""
    line = Measurement(peer.name, peer.label)
    try:
        with inputs.input.device:
            line.note = peer.can_run(workload)
            if line.note is not None:
                return line, None
            warp = peer.make(workload)
        line.error = gate.check(peer, warp, inputs, mode)
    except WrongResultError as error:
        line.note = f"wrong result: {error}"
        return line, None
    except Exception as error:  # a peer that breaks must not end the run of the others
        line.note = f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return line, None
    return line, warp


def measure_mode(
    workload: Workload, mode: Mode, inputs: Inputs, gate: Gate, settings: Settings, say: Say = lambda text: None
) -> ModeResult:
    """All peers in one mode: gate, interleaved times, memory."""
    result = ModeResult(mode.name, workload.bytes_moved(mode))
    device, ready = settings.measured_on, inputs.for_mode(mode)
    runs = {}
    for name in settings.peers:
        line, warp = _admit(PEERS[name], workload, mode, inputs, gate)
        result.measurements.append(line)
        if warp is not None:
            runs[name] = prepared(PEERS[name], warp, ready, mode)
        else:
            say(f"{workload.name}, {mode.label}: no time for {line.label}: {line.note}")
    timings = interleaved(runs, settings.plan, device.seconds_of)
    for line in result.measurements:
        if line.peer not in timings:
            continue
        timing = timings[line.peer]
        line.seconds, line.turns = timing.median, timing.turns
        line.lower_quartile, line.upper_quartile = timing.lower_quartile, timing.upper_quartile
        if settings.memory:
            line.memory_bytes = device.extra_memory(workload, PEERS[line.peer], mode, runs[line.peer], settings.threads)
    return result


def measure_workload(workload: Workload, settings: Settings, say: Say = lambda text: None) -> WorkloadResult:
    """All modes of one workload, on the same inputs."""
    result = WorkloadResult(workload, settings.measured_on.bandwidth())
    inputs = make_inputs(workload, settings.seed, settings.device)
    gate = Gate(workload, inputs)
    for name in workload.modes:
        if name in settings.modes:
            result.modes.append(measure_mode(workload, MODES[name], inputs, gate, settings, say))
    return result


def run(workloads: Sequence[Workload], settings: Settings, path: Path, console: Console) -> Results:
    """Measures the workloads one after another; ``path`` holds what there is after each of them."""
    torch.set_num_threads(settings.threads)
    begin = time.monotonic()
    results = Results(
        settings.measured_on.describe(),
        machine.describe_versions(),
        machine.describe_commit(),
        settings.threads,
        asdict(settings),
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(workloads))
        for number, workload in enumerate(workloads):
            if settings.seconds is not None and time.monotonic() - begin > settings.seconds:
                progress.console.print(f"out of time: {len(workloads) - number} workloads are left out")
                return results
            progress.update(task, description=workload.name)
            results.workloads.append(measure_workload(workload, settings, progress.console.print))
            save(results, path)
            progress.advance(task)
    results.complete = True
    save(results, path)
    return results


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="cuda has workloads of its own")
    parser.add_argument("--group", choices=GROUPS, help="only these workloads (default: all)")
    parser.add_argument("--workload", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--mode", action="append", choices=MODES, help="only this one; may be repeated")
    parser.add_argument("--peer", action="append", choices=PEERS, help="only this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="few workloads and short measurements")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="begin no workload after so many")
    parser.add_argument("--file", help="name of the results without suffix (default: the machine's)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    parser.add_argument("--force", action="store_true", help="replace the results that this machine has there")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs, prints the table, and gives the exit code."""
    arguments = _arguments(argv)
    console = report.console()
    device = DEVICES[arguments.device]
    reason = device.why_not_here()
    if reason is not None:
        console.print(f"--device {device.name}: {reason}", markup=False)
        return 2
    path = arguments.out / f"{arguments.file or file_name(device.describe(), arguments.threads)}.json"
    if path.exists() and not arguments.force:
        console.print(f"{path} exists: --force replaces it, --out names another folder", markup=False)
        return 2
    try:
        workloads = select(arguments.group, arguments.workload, arguments.quick, device.name)
    except ValueError as error:
        console.print(str(error), markup=False)
        return 2
    settings = Settings(
        arguments.threads,
        device.quick_plan if arguments.quick else device.plan,
        tuple(arguments.mode or MODES),
        tuple(arguments.peer or peers_on(device.name)),
        not arguments.no_memory,
        arguments.seed,
        device.name,
        arguments.seconds,
    )
    try:
        results = run(workloads, settings, path, console)
    except KeyboardInterrupt:
        console.print(f"interrupted: {path} holds the workloads measured so far, if any", markup=False)
        return 130
    if not results.workloads:
        console.print("nothing was measured")
        return 1
    report.show(results, console)
    console.print(f"written: {path} and .csv", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
