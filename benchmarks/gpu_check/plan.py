"""The steps of ``make gpu-check``, as data."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu_check.steps import Step

#: All steps together: some minutes less than ten, since the machine may be lent for ten.
SECONDS = 570.0
PYTHON = sys.executable
SECTIONS = ("SpeedOfLight", "MemoryWorkloadAnalysis", "Occupancy", "WarpStateStats", "LaunchStats")
PLANAR = "regex:planar_(forward|backward)"
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")


def no_gpu() -> str | None:
    """Why nothing can run on a GPU, or None."""
    return None if torch.cuda.is_available() else "no GPU"


def _no_gpu_or(tool: str) -> Callable[[], str | None]:
    def why_not() -> str | None:
        return no_gpu() or (None if shutil.which(tool) else f"{tool} is not on the PATH")

    return why_not


def architectures() -> dict[str, str]:
    """The environment of a build for the GPU that is there, which takes a fraction of the time of one for all."""
    if no_gpu() is not None:
        return {}
    major, minor = torch.cuda.get_device_capability()
    return {"DEFORMWARP_CUDA_ARCHITECTURES": f"{major}{minor}-real"}


def _tests(*options: str) -> tuple[str, ...]:
    workers = ()
    if importlib.util.find_spec("xdist") is not None:
        workers = ("-n", str(min(12, os.cpu_count() or 1)))
    return (PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, *options)


def steps(out: Path) -> tuple[Step, ...]:
    """What is done, in this order; results go to the folder ``out``."""
    results = out / "benchmark.json"
    benchmark = (PYTHON, "-m", "benchmarks.run", "--device", "cuda", "--out", str(out), "--file", results.stem)
    sections = [word for section in SECTIONS for word in ("--section", section)]
    profile = ("ncu", "--clock-control", "none", "--kernel-name", PLANAR, *sections, "--csv", "--page", "details")
    # Every check of memory sees blocks of their own, and only such kernels run as the script asks for.
    exactly = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return (
        Step("build", (PYTHON, "setup.py", "build_ext", "--inplace", "egg_info"), 150, environment=architectures()),
        Step("info", (PYTHON, "-m", "deformwarp.info", "--require", "cuda"), 30, no_gpu),
        Step("gpu tests", _tests("-m", "gpu", "tests", "--ignore=tests/posewarper"), 150, no_gpu),
        Step("benchmark", (*benchmark, "--seconds", "130", "--force"), 160, no_gpu),
        Step(
            "table",
            (PYTHON, "-m", "benchmarks.report", str(results), "--markdown", str(out / "benchmark.md")),
            20,
            no_gpu,
        ),
        Step(
            "profile",
            (*profile, "--log-file", str(out / "profile.csv"), PYTHON, "-m", "benchmarks.gpu_check.profiled"),
            60,
            _no_gpu_or("ncu"),
        ),
        *(
            Step(
                tool,
                (
                    "compute-sanitizer",
                    "--tool",
                    tool,
                    "--error-exitcode",
                    "1",
                    PYTHON,
                    "-m",
                    "benchmarks.gpu_check.sanitized",
                ),
                60,
                _no_gpu_or("compute-sanitizer"),
                exactly,
            )
            for tool in TOOLS
        ),
        Step("other tests", _tests("-m", "not gpu and not slow", "tests", "--ignore=tests/posewarper"), 150, no_gpu),
    )
