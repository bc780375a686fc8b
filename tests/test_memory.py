"""The forward has no column buffer: its peak extra memory is under one input-sized buffer per thread."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the probe reads Linux's /proc"),
]


def _probe(what: str, samples: int, threads: int) -> tuple[int, int]:
    """Peak extra bytes without the output, and the bytes of the input."""
    printed = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("memory_probe.py")), what, str(samples), str(threads)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "4096", "MALLOC_MMAP_MAX_": "1000000", "MALLOC_ARENA_MAX": "1"},
    ).stdout
    peak, input_bytes = map(int, printed.split())
    return peak, input_bytes


@pytest.mark.parametrize("threads", [1, 2], ids=["1_thread", "2_threads"])
@pytest.mark.parametrize("samples", [1, 4], ids=["N=1", "N=4"])
def test_extra_memory_stays_under_one_input_per_thread(samples: int, threads: int) -> None:
    peak, input_bytes = _probe("forward", samples, threads)
    assert 0 < peak < threads * input_bytes


def test_the_probe_sees_an_allocation_and_nothing_else() -> None:
    peak, input_bytes = _probe("control", 1, 2)
    assert input_bytes <= peak <= input_bytes + 2**14
    assert _probe("nothing", 1, 2)[0] <= 2**14
