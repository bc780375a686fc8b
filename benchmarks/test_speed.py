"""``pytest benchmarks --benchmark-only``: the same registry under pytest-benchmark, and the promised ratios.

Not part of the plain test suite: a time is no test on a machine that does something else as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from benchmarks.calls import call
from benchmarks.gate import Gate
from benchmarks.peers import PEERS, peers_on
from benchmarks.targets import TARGETS, Target
from benchmarks.timing import Plan, interleaved
from benchmarks.workloads import MODES, WORKLOADS, Inputs, Workload, make_inputs

CASES = [
    pytest.param(workload, mode, peer, id=f"{workload.name}-{mode}-{peer}")
    for workload in WORKLOADS.values()
    for mode in workload.modes
    for peer in peers_on("cpu")
]
PLAN = Plan(seconds=2.0, fewest=3, most=60)


@functools.lru_cache(maxsize=1)  # consecutive cases share a workload
def _prepared(workload: Workload) -> tuple[Inputs, Gate]:
    inputs = make_inputs(workload)
    return inputs, Gate(workload, inputs)


def _runs(workload: Workload, mode: str, names: Sequence[str]) -> dict[str, Callable[[], object]]:
    """How to run each peer that can, once its numbers were found right."""
    inputs, gate = _prepared(workload)
    runs: dict[str, Callable[[], object]] = {}
    for name in names:
        peer = PEERS[name]
        if peer.can_run(workload) is None:
            warp = peer.make(workload)
            gate.check(peer, warp, inputs, MODES[mode])
            runs[name] = functools.partial(call, peer, warp, inputs.for_mode(MODES[mode]), MODES[mode])
    return runs


@pytest.mark.parametrize(("workload", "mode", "peer"), CASES)
def test_time(benchmark: Any, workload: Workload, mode: str, peer: str) -> None:
    reason = PEERS[peer].can_run(workload)
    if reason is not None:
        pytest.skip(reason)
    benchmark.group = f"{workload.name}, {MODES[mode].label}"
    benchmark.extra_info["bytes_moved"] = workload.bytes_moved(MODES[mode])
    benchmark.pedantic(_runs(workload, mode, [peer])[peer], rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_target(benchmark: Any, target: Target) -> None:
    runs = _runs(WORKLOADS[target.workload], target.mode, [target.peer, *target.over])
    if target.peer not in runs:
        pytest.skip(str(PEERS[target.peer].can_run(WORKLOADS[target.workload])))
    timings = interleaved(runs, PLAN)
    ratio = min(timings[name].median for name in target.over if name in timings) / timings[target.peer].median
    benchmark.group = "targets"
    benchmark.extra_info.update(ratio=ratio, at_least=target.at_least)
    benchmark.pedantic(runs[target.peer], rounds=3)
    assert ratio >= target.at_least, f"{target}: {ratio:.1f}x, promised {target.at_least}x"
