"""Peak extra memory of one call, each measured in a fresh process."""

from __future__ import annotations

import ctypes
import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks.calls import call, prepared
from benchmarks.peers import PEERS, Peer, Warp
from benchmarks.workloads import MODES, Inputs, Mode, Workload, make_inputs, shrunk

Result = TypeVar("Result")

M_MMAP_THRESHOLD = -3
LARGE = 1 << 16  # bytes


def _give_freed_memory_back() -> None:
    """Freed blocks go back to the system at once, so that a call cannot reuse what was freed before the baseline."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(M_MMAP_THRESHOLD, LARGE)
            libc.malloc_trim(0)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def _start() -> int:
    """Resident bytes now; the peak counts from here where the system allows it."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    return _peak()


def _peak() -> int:
    if sys.platform == "linux":
        return _status("VmHWM")
    import resource

    # macOS counts bytes, the others kilobytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_of(run: Callable[[], object]) -> int:
    """Peak resident bytes of one call over those before it; call it in a process that has done little else."""
    _give_freed_memory_back()
    before = _start()
    run()
    return max(0, _peak() - before)


def _warm_up(peer: Peer, warp: Warp, workload: Workload, inputs: Inputs, mode: Mode) -> None:
    if peer.compiled:  # it must see the shape itself
        call(peer, warp, inputs, mode)
        return
    # A tiny one loads code and starts threads, but leaves no buffer of the real size behind.
    small = shrunk(workload)
    call(peer, peer.make(small), make_inputs(small).for_mode(mode), mode)


def growth(run: Callable[[], Result]) -> tuple[int, Result]:
    """Peak resident bytes while it runs over those before it, and what it returns."""
    _give_freed_memory_back()
    before = _start()
    result = run()
    return _peak() - before, result


def extra_memory_here(workload: Workload, peer: Peer, mode: Mode) -> int:
    """Peak resident bytes of one call over those before it, less the output and gradients that it returns."""
    inputs = make_inputs(workload, seed=1).for_mode(mode)
    warp = peer.make(workload)
    _give_freed_memory_back()
    _warm_up(peer, warp, workload, inputs, mode)
    peak, outcome = growth(prepared(peer, warp, inputs, mode))
    return max(0, peak - outcome.bytes(mode))


def _child(connection: Connection, workload: Workload, peer: str, mode: str, threads: int) -> None:
    try:
        torch.set_num_threads(threads)
        connection.send(extra_memory_here(workload, PEERS[peer], MODES[mode]))
    except (OSError, RuntimeError, ImportError) as error:
        connection.send(str(error))


def extra_memory(workload: Workload, peer: Peer, mode: Mode, threads: int) -> int | None:
    """The same, in a process of its own; None where it cannot be measured."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        # The server imports once and never computes, so every process forked from it is a fresh one.
        context.set_forkserver_preload(["benchmarks.memory", "torchvision"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, workload, peer.name, mode.name, threads))
    process.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:  # it was killed
        answer = None
    process.join()
    return answer if isinstance(answer, int) else None
