"""``python -m benchmarks.gpu_check --out FOLDER``: builds, tests, checks, measures and profiles on this GPU.

Needs torch, torchvision, setuptools, nvcc, cmake, ninja, pybind11, pytest, hypothesis, rich, matplotlib, timm,
lightning and opencv-python-headless, and no network; ncu and compute-sanitizer come with the CUDA toolkit. What is
missing costs the steps that need it, which say so. With pytest-xdist the tests take a fraction of the time.

The folder gets ``gpu-check.json`` (machine, commit, what was done, and what became of it), ``gpu-check.log`` (the
output of all steps), ``benchmark.json``, ``.csv`` and ``.md``, ``benchmark-compiled.json`` and ``.csv``,
``posewarper.json``, ``profile.csv`` and ``profile.md``. A step that is cut short leaves what it had. The commit of a
copy without history is named by ``DEFORMWARP_COMMIT``. The exit status is 0 if every step passed, 2 if there is no GPU,
else 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu_check import plan
from benchmarks.gpu_check.steps import Ended, Log, Stage, run_stages, save


def about() -> dict[str, Any]:
    """Machine, versions and commit; or why they cannot be told, which must not stop what can be checked."""
    try:
        from benchmarks import machine
        from benchmarks.device import DEVICES

        return {
            "machine": DEVICES["cpu" if plan.no_gpu() else "cuda"].describe(),
            "versions": machine.describe_versions(),
            "commit": machine.describe_commit(),
        }
    except Exception as error:  # the build failed, or the GPU does
        return {"note": f"{type(error).__name__}: {error}"}


def check(stages: Sequence[Stage], out: Path, seconds: float) -> list[Ended]:
    """Runs the stages; ``out`` holds the log, and the JSON of the steps so far."""
    facts: dict[str, Any] = {}
    begun = {"begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}

    def ended(so_far: list[Ended]) -> None:
        sys.stdout.write(f"{so_far[-1]}\n")
        sys.stdout.flush()
        facts.update(facts or about())  # only now: the build may just have made what describes the machine
        save(out / "gpu-check.json", begun | facts, so_far)

    return run_stages(stages, Log(out / "gpu-check.log"), seconds, ended)


def _chosen(stages: Sequence[Stage], names: Sequence[str] | None, seconds: float) -> tuple[Stage, ...]:
    """All; or the named steps, each of which may take all the time that there is."""
    if not names:
        return tuple(stages)
    return tuple(tuple(replace(step, seconds=seconds) for step in stage if step.name in names) for stage in stages)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; made if it is not there")
    parser.add_argument("--only", action="append", help="only this step, without a limit of its own; may be repeated")
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
    stages = plan.stages(out)
    names = ", ".join(step.name for stage in stages for step in stage)
    unknown = set(arguments.only or ()) - set(names.split(", "))
    if unknown:
        sys.stderr.write(f"--only: is {', '.join(sorted(unknown))}, but should be among {names}\n")
        return 1
    out.mkdir(parents=True, exist_ok=True)
    outcomes = check(_chosen(stages, arguments.only, arguments.seconds), out, arguments.seconds)
    open_steps = [outcome.name for outcome in outcomes if not outcome.is_sound]
    if plan.no_gpu() is not None:
        sys.stdout.write("no GPU: nothing was checked on one\n")
        return 2
    sys.stdout.write(f"not passed: {', '.join(open_steps)}\n" if open_steps else "all steps passed\n")
    return int(bool(open_steps))


if __name__ == "__main__":
    sys.exit(main())
