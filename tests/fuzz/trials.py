"""The process that the trials run in: says which one it begins, and stops at the first that fails."""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import sys
import time

import problems
import torch

from deformwarp import native
from fuzz import broken, valid
from fuzz.drawing import drawn

PATIENCE = 120  # seconds for one trial
SHARE_BROKEN = 3  # every third is


def run(number: int) -> None:
    """One trial."""
    trial = drawn(number)
    (broken if number % SHARE_BROKEN == 0 else valid).check(trial)


def _numbers(first: int, count: int | None, seconds: float | None) -> itertools.takewhile[int]:
    start = time.monotonic()

    def goes_on(number: int) -> bool:
        return number < first + count if count is not None else time.monotonic() - start < (seconds or 0)

    return itertools.takewhile(goes_on, itertools.count(first))


def main() -> None:
    """Runs trials; the last line says how many, and of what."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seconds", type=float)
    arguments = parser.parse_args()
    # Results come in memory full of NaN, so that what is not written shows.
    torch.use_deterministic_algorithms(True, warn_only=True)
    done = 0
    for number in _numbers(arguments.first, arguments.count, arguments.seconds):
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        sys.stdout.write(f"trial {number}\n")
        sys.stdout.flush()
        run(number)
        problems._problem_on.cache_clear()
        done += 1
    faulthandler.cancel_dump_traceback_later()
    sys.stdout.write(f"{done} trials from {arguments.first} on, kernels by {native.COMPILER}: none failed\n")


if __name__ == "__main__":
    main()
