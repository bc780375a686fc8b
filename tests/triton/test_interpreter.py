"""The conformance suite of the Triton kernels, in a process whose Triton interprets them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton

SUITE = Path(__file__).with_name("interpreted.py")
LONGEST = 1800  # seconds: it takes some forty, and a machine may be busy


@pytest.mark.slow
@pytest.mark.skipif(
    tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 9),
    reason="the interpreter of Triton 3.6 takes NaN for the larger of NaN and -2, where compiled kernels take -2",
)
def test_the_kernels_conform_in_the_interpreter() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SUITE)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
