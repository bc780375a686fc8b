"""Many Python threads at once, and the workers of a DataLoader: the same bits as one call after another."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from problems import BY_NAME, assert_same_bits, forward_and_gradients, problem_of
from torch import Tensor

import deformwarp
from deformwarp.native import available_isas

TESTS = Path(__file__).parent
CASES = [BY_NAME[name] for name in ("posewarper", "lopsided", "masks_bias_groups", "primes", "shared", "one_pixel")]
THREADS = 8
REPEATS = 5
PATIENCE = 300  # seconds


class Caller(threading.Thread):
    """Solves one case again and again; a daemon, so that one that hangs cannot keep the tests from ending."""

    def __init__(self, start: threading.Barrier, dtype: torch.dtype, number: int) -> None:
        super().__init__(daemon=True)
        self.problem = problem_of(CASES[number % len(CASES)], dtype)
        self.barrier = start
        self.results: list[dict[str, Tensor]] = []

    def run(self) -> None:
        self.barrier.wait(PATIENCE)
        self.results = [forward_and_gradients(self.problem) for _ in range(REPEATS)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("pool", [1, 3])
@pytest.mark.usefixtures("restored_threads")
def test_python_threads_do_not_disturb_each_other(dtype: torch.dtype, pool: int) -> None:
    torch.set_num_threads(pool)
    barrier = threading.Barrier(THREADS)
    callers = [Caller(barrier, dtype, number) for number in range(THREADS)]
    alone = [forward_and_gradients(caller.problem) for caller in callers]
    for caller in callers:
        caller.start()
    for caller, expected in zip(callers, alone, strict=True):
        caller.join(PATIENCE)
        assert len(caller.results) == REPEATS
        for result in caller.results:
            assert_same_bits(result, expected)


def test_another_thread_may_change_the_instruction_set_at_any_time() -> None:
    problem = problem_of(BY_NAME["lopsided"], torch.float32)
    expected = []
    for isa in available_isas():
        with deformwarp.use_isa(isa):
            expected.append(problem.warp())
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for isa in available_isas():
                with deformwarp.use_isa(isa):
                    pass

    changer = threading.Thread(target=change, daemon=True)
    changer.start()
    try:
        results = [problem.warp() for _ in range(50)]
    finally:
        stop.set()
        changer.join(PATIENCE)
    # Every call is one instruction set's from beginning to end.
    assert all(any(torch.equal(result, one) for one in expected) for result in results)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader_can_warp(method: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), *sys.path])}
    command = [sys.executable, str(TESTS / "loader_probe.py"), method]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False, timeout=PATIENCE)
    assert done.stdout == "same\n", done.stderr
