"""Where a benchmark runs: how time, memory and bandwidth are measured there."""

from __future__ import annotations

import re
import statistics
import subprocess
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch

from benchmarks import machine, memory, timing
from benchmarks.calls import Outcome
from benchmarks.peers import Peer
from benchmarks.timing import QUICK_PLAN, Plan, Run
from benchmarks.workloads import Mode, Workload

Call = Callable[[], Outcome]
Result = TypeVar("Result")


class Device(Protocol):
    """One of :data:`DEVICES`."""

    name: str
    plan: Plan
    quick_plan: Plan

    def why_not_here(self) -> str | None:
        """Why it cannot be used, or None."""

    def describe(self) -> dict[str, Any]:
        """The machine, as far as it matters to a time."""

    def synchronize(self) -> None:
        """Waits until all that was launched is done."""

    def seconds_of(self, run: Run) -> float:
        """One call, alone and with nothing of its inputs in a cache."""

    def bandwidth(self) -> dict[str, float]:
        """Bytes a second: ``copy`` counts what is read and what is written, ``read`` a sum."""

    def extra_memory(self, workload: Workload, peer: Peer, mode: Mode, run: Call, threads: int) -> int | None:
        """Peak bytes of one call beyond those before it and those that it returns."""


class Cpu:
    """Host memory and host clock; small workloads stay in the caches."""

    name = "cpu"
    plan = Plan()
    quick_plan = QUICK_PLAN

    def why_not_here(self) -> str | None:
        return None

    def describe(self) -> dict[str, Any]:
        return machine.describe_machine()

    def synchronize(self) -> None:
        pass

    def seconds_of(self, run: Run) -> float:
        return timing.seconds_of(run)

    def bandwidth(self) -> dict[str, float]:
        return machine.measure_bandwidth()

    def extra_memory(self, workload: Workload, peer: Peer, mode: Mode, run: Call, threads: int) -> int | None:
        return memory.extra_memory(workload, peer, mode, threads)  # in a fresh process, with a run of its own


class Cuda:
    """The GPU's own clock and torch's allocator.

    A call is timed from event to event, behind a pause that is longer than the host takes to launch it: what is
    measured is the GPU's time, as in a CUDA graph. Before the pause a buffer of twice the second-level cache is
    overwritten.
    """

    name = "cuda"
    plan = timing.GPU_PLAN
    quick_plan = timing.GPU_PLAN

    PAUSE = 4_000_000  # clock cycles, about 2 ms
    COPY_BYTES = 1 << 30  # well beyond any second-level cache

    def __init__(self) -> None:
        self._flush: torch.Tensor | None = None

    def why_not_here(self) -> str | None:
        return None if torch.cuda.is_available() else "torch sees no GPU"

    def describe(self) -> dict[str, Any]:
        found = torch.cuda.get_device_properties("cuda")
        return machine.describe_machine() | {
            "gpu": {
                "name": found.name,
                "architecture": f"sm_{found.major}{found.minor}",
                "multiprocessors": found.multi_processor_count,
                "memory_bytes": found.total_memory,
                "cache_bytes": found.L2_cache_size,
                "driver": _driver(),
                "cuda": torch.version.cuda,
            }
        }

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def seconds_of(self, run: Run) -> float:
        if self._flush is None:
            size = max(2 * torch.cuda.get_device_properties("cuda").L2_cache_size, 1 << 27)
            self._flush = torch.empty(size, dtype=torch.uint8, device="cuda")
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flush.zero_()
        torch.cuda._sleep(self.PAUSE)
        begin.record()
        result = run()
        end.record()
        end.synchronize()
        del result
        return begin.elapsed_time(end) / 1e3

    def bandwidth(self) -> dict[str, float]:
        source = torch.ones(self.COPY_BYTES // 4, device="cuda")
        target = torch.zeros_like(source)
        jobs = {"copy": (lambda: target.copy_(source), 2 * self.COPY_BYTES), "read": (source.sum, self.COPY_BYTES)}
        result = {}
        for name, (run, count) in jobs.items():
            self.seconds_of(run)
            result[name] = count / statistics.median(self.seconds_of(run) for _ in range(7))
        return result

    def extra_memory(self, workload: Workload, peer: Peer, mode: Mode, run: Call, threads: int) -> int | None:
        peak, outcome = allocated(run)
        return max(0, peak - outcome.bytes(mode))


def allocated(run: Callable[[], Result]) -> tuple[int, Result]:
    """Peak bytes asked of torch's CUDA allocator while it runs over those before it, and what it returns.

    What the allocator hands out is more: whole blocks, of a size that depends on what was freed before.
    """
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["requested_bytes.all.current"]
    torch.cuda.reset_peak_memory_stats()
    result = run()
    torch.cuda.synchronize()
    return int(torch.cuda.memory_stats()["requested_bytes.all.peak"] - before), result


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


DEVICES: dict[str, Device] = {device.name: device for device in (Cpu(), Cuda())}


def file_name(described: dict[str, Any], threads: int) -> str:
    """A file name for the results of a machine, the same on every day.

    >>> file_name({"cpu": "Intel(R) Xeon(R) CPU @ 2.50GHz"}, 2)
    'cpu-intel-xeon-2-50ghz-2-threads'
    >>> file_name({"cpu": "Intel(R) Xeon(R) CPU @ 2.50GHz", "gpu": {"name": "NVIDIA H100 80GB HBM3"}}, 2)
    'cuda-nvidia-h100-80gb-hbm3'
    """
    if "gpu" in described:
        return "cuda-" + re.sub(r"[^a-z0-9]+", "-", described["gpu"]["name"].lower()).strip("-")
    return machine.slug(described, threads)
