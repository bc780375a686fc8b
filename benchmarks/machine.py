"""Where a result comes from: machine, versions, commit, and what the memory can do."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.timing import seconds_of
from deformwarp.native import available_isas, current_isa

ROOT = Path(__file__).parent.parent
BANDWIDTH_BYTES = 1 << 28  # well beyond any last-level cache of a desktop
PLACEMENT = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if match:
            return match[1]
    return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def describe_machine() -> dict[str, object]:
    """The machine, as far as it matters to a time."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "isa": current_isa(),
        "isas": available_isas(),
        "os": platform.platform(),
        "placement": {name: os.environ[name] for name in PLACEMENT if name in os.environ},
    }


def describe_versions() -> dict[str, str]:
    """Versions of everything that computes."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("torchvision", "triton", "deformwarp"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def describe_commit() -> dict[str, object]:
    """The commit, and whether the tree differed from it (results aside).

    A copy of the tree without its history is named by ``DEFORMWARP_COMMIT``.
    """
    named = os.environ.get("DEFORMWARP_COMMIT")
    if named:
        return {"hash": named, "dirty": None}
    changed = _output("git", "status", "--porcelain", "--", ".", ":(exclude)benchmarks/results")
    return {"hash": _output("git", "rev-parse", "HEAD"), "dirty": None if changed is None else changed != ""}


def slug(machine: dict[str, object], threads: int) -> str:
    """A file name for the results of a machine, the same on every day.

    >>> slug({"cpu": "Intel(R) Xeon(R) CPU @ 2.50GHz"}, 2)
    'cpu-intel-xeon-2-50ghz-2-threads'
    """
    words = re.sub(r"\((R|TM)\)|\b(CPU|Processor)\b", " ", str(machine["cpu"]), flags=re.IGNORECASE)
    name = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return f"cpu-{name}-{threads}-thread{'s' if threads > 1 else ''}"


def measure_bandwidth(size: int = BANDWIDTH_BYTES, turns: int = 5) -> dict[str, float]:
    """Bytes a second with the threads in use: ``copy`` counts what is read and what is written, ``read`` a sum."""
    source = torch.ones(size // 4)
    target = torch.zeros_like(source)
    jobs = {"copy": (lambda: target.copy_(source), 2 * size), "read": (lambda: source.sum(), size)}
    result = {}
    for name, (run, count) in jobs.items():
        seconds_of(run)
        result[name] = count / statistics.median(seconds_of(run) for _ in range(turns))
    return result
