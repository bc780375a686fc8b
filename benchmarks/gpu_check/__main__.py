"""``python -m benchmarks.gpu_check --out FOLDER``: builds, tests, checks, measures and profiles on this GPU.

Needs torch, torchvision, pytest, hypothesis, rich, nvcc, cmake, ninja and pybind11, and no network. The folder gets
``gpu-check.json`` (what was done, and what became of it), ``gpu-check.log`` (the output of all steps),
``benchmark.json``, ``.csv`` and ``.md``, and ``profile.csv``. The exit status is 0 if every step passed, 2 if there is
no GPU, else 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_check import plan
from benchmarks.gpu_check.steps import Ended, Log, Step, run_steps, save


def about() -> dict[str, Any]:
    """Machine, versions and commit, as far as the build can say."""
    begun = {"begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    try:
        from benchmarks import machine
        from benchmarks.device import DEVICES
    except ImportError as error:  # the build failed
        return begun | {"note": str(error)}
    return begun | {
        "machine": DEVICES["cpu" if plan.no_gpu() else "cuda"].describe(),
        "versions": machine.describe_versions(),
        "commit": machine.describe_commit(),
    }


def check(steps: Sequence[Step], out: Path, seconds: float) -> list[Ended]:
    """Runs the steps; ``out`` holds the log, and the JSON of the steps so far."""
    path = out / "gpu-check.json"

    def ended(so_far: list[Ended]) -> None:
        sys.stdout.write(f"{so_far[-1]}\n")
        sys.stdout.flush()
        save(path, {}, so_far)

    outcomes = run_steps(steps, Log(out / "gpu-check.log"), seconds, ended)
    save(path, about(), outcomes)  # only now: the build may just have made what describes the machine
    return outcomes


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; made if it is not there")
    parser.add_argument("--only", action="append", help="only this step; may be repeated")
    parser.add_argument("--seconds", type=float, default=plan.SECONDS, help="for all steps together")
    parser.add_argument("--force", action="store_true", help="replace the results that are in the folder")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs, prints a line for each step, and gives the exit status."""
    arguments = _arguments(argv)
    out = arguments.out.absolute()
    if (out / "gpu-check.json").exists() and not arguments.force:
        sys.stderr.write(f"{out}/gpu-check.json exists: --force replaces it, --out names another folder\n")
        return 1
    steps = plan.steps(out)
    unknown = set(arguments.only or ()) - {step.name for step in steps}
    if unknown:
        names = ", ".join(step.name for step in steps)
        sys.stderr.write(f"--only: is {', '.join(sorted(unknown))}, but should be among {names}\n")
        return 1
    out.mkdir(parents=True, exist_ok=True)
    chosen = [step for step in steps if not arguments.only or step.name in arguments.only]
    outcomes = check(chosen, out, arguments.seconds)
    open_steps = [outcome.name for outcome in outcomes if not outcome.is_sound]
    if plan.no_gpu() is not None:
        sys.stdout.write("no GPU: nothing was checked on one\n")
        return 2
    sys.stdout.write(f"not passed: {', '.join(open_steps)}\n" if open_steps else "all steps passed\n")
    return int(bool(open_steps))


if __name__ == "__main__":
    sys.exit(main())
