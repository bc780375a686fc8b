"""The steps of ``make gpu-check``, as data."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu_check.steps import Stage, Step

#: All steps together: less than ten minutes, since the machine may be lent for ten.
SECONDS = 570.0
PYTHON = sys.executable
TOOLKIT = "/usr/local/cuda/bin"  # where NVIDIA installs, often without putting it on the PATH
PATH = os.pathsep.join([os.environ.get("PATH", ""), TOOLKIT])
SECTIONS = (
    "SpeedOfLight",
    "ComputeWorkloadAnalysis",
    "MemoryWorkloadAnalysis",
    "MemoryWorkloadAnalysis_Tables",
    "InstructionStats",
    "SchedulerStats",
    "WarpStateStats",
    "Occupancy",
    "LaunchStats",
)
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
PORTS = range(49152, 49152 + 10 * len(TOOLS), 10)  # each tool tries ten, from its first on
SANITIZER = (
    "compute-sanitizer",
    *("--error-exitcode", "1"),
    # PyTorch asks the driver for functions that it need not have, and our launches are checked by ourselves.
    *("--report-api-errors", "no"),
    # It would let the program run unchecked after a minute without a CUDA call, and after a failure of its own.
    *("--launch-timeout", "0", "--kill"),
    *("--target-processes", "all"),
    *("--destroy-on-device-error", "kernel"),  # what comes after a wrong access is looked at too
    *("--print-limit", "20"),
)


def no_gpu() -> str | None:
    """Why nothing can run on a GPU, or None."""
    return None if torch.cuda.is_available() else "no GPU"


def _no_gpu_or(program: str) -> Callable[[], str | None]:
    def why_not() -> str | None:
        found = shutil.which(program, path=PATH)
        return no_gpu() or (None if found else f"{program} is not on the PATH, nor in {TOOLKIT}")

    return why_not


def _no_gpu_or_modules(*modules: str) -> Callable[[], str | None]:
    def why_not() -> str | None:
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        return no_gpu() or (f"missing: {', '.join(missing)}: pip install '.[models]'" if missing else None)

    return why_not


def architectures() -> dict[str, str]:
    """The environment of a build for the GPU that is there, which takes a fraction of the time of one for all."""
    if no_gpu() is not None:
        return {}
    major, minor = torch.cuda.get_device_capability()
    return {"DEFORMWARP_CUDA_ARCHITECTURES": f"{major}{minor}-real"}


def _tests(*options: str) -> tuple[str, ...]:
    """pytest on many cores, where it can; what one module needs and is not there takes no other's tests along."""
    workers = ("-n", str(min(12, os.cpu_count() or 1))) if importlib.util.find_spec("xdist") else ()
    quiet = ("-q", "--tb", "short", "-p", "no:cacheprovider", "--continue-on-collection-errors", "--durations", "5")
    return (PYTHON, "-m", "pytest", *quiet, *workers, *options, "tests", "--ignore=tests/posewarper")


def _each_within(seconds: int) -> tuple[str, ...]:
    """A kernel that hangs costs its test alone, where pytest can see to that."""
    return ("--timeout", str(seconds)) if importlib.util.find_spec("pytest_timeout") else ()


def stages(out: Path) -> tuple[Stage, ...]:
    """What is done, in this order; results go to the folder ``out``."""
    results, profile = out / "benchmark.json", out / "profile.csv"
    measure = (PYTHON, "-m", "benchmarks.run", "--device", "cuda", "--out", str(out), "--force")
    sections = [word for section in SECTIONS for word in ("--section", section)]
    ncu = ("ncu", "--profile-from-start", "off", "--clock-control", "none", *sections, "--csv", "--page", "raw")
    # Every check of memory sees blocks of their own.
    exactly = {"PATH": PATH, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    build = Step(
        "build",
        (PYTHON, "setup.py", "build_ext", "--inplace", "egg_info"),
        120,
        environment={"PATH": PATH, **architectures()},
    )
    sanitizers = [
        Step(
            tool,
            (*SANITIZER, "--port", str(port), "--tool", tool, PYTHON, "-m", "benchmarks.gpu_check.sanitized"),
            90,
            _no_gpu_or("compute-sanitizer"),
            exactly,
        )
        for tool, port in zip(TOOLS, PORTS, strict=True)
    ]
    triton_tests = Step("triton tests", _tests("-m", "gpu", "-k", "triton", *_each_within(60)), 90, no_gpu)
    benchmark = Step(
        "benchmark",
        (
            *(*measure, "--file", results.stem, "--seconds", "80"),
            *("--peer", "torchvision", "--peer", "grid_sample", "--peer", "deformwarp", "--peer", "deformwarp_triton"),
        ),
        100,
        no_gpu,
    )
    table = Step(
        "table",
        (PYTHON, "-m", "benchmarks.report", str(results), "--markdown", str(out / "benchmark.md")),
        15,
        no_gpu,
    )
    posewarper = Step(
        "posewarper",
        (
            *(PYTHON, "-m", "benchmarks.posewarper", "--device", "cuda", "--seconds", "0.5", "--threads", "8"),
            *("--out", str(out / "posewarper.json")),
        ),
        60,
        _no_gpu_or_modules("torchvision", "timm", "lightning", "cv2"),
    )
    profiled = Step(
        "profile",
        (*ncu, "--log-file", str(profile), PYTHON, "-m", "benchmarks.gpu_check.profiled"),
        45,
        _no_gpu_or("ncu"),
        {"PATH": PATH},
    )
    profile_table = Step(
        "profile table",
        (PYTHON, "-m", "benchmarks.gpu_check.profile_table", str(profile), "--markdown", str(out / "profile.md")),
        10,
        _no_gpu_or("ncu"),
    )
    compiled = Step(
        "compiled peer",
        (
            *(*measure, "--file", "benchmark-compiled", "--seconds", "15"),
            *("--peer", "grid_sample_compiled", "--peer", "deformwarp"),
            *("--workload", "posewarper-384x288-n16-float32", "--workload", "posewarper-384x288-n1-float32"),
        ),
        30,
        no_gpu,
    )
    return (
        (build,),
        (Step("info", (PYTHON, "-m", "deformwarp.info", "--require", "cuda"), 25, no_gpu),),
        (Step("gpu tests", _tests("-m", "gpu", "-k", "not triton", *_each_within(45)), 75, no_gpu),),
        (*sanitizers, triton_tests),
        (benchmark,),
        (table,),
        (posewarper,),
        (profiled,),
        (profile_table,),
        (compiled,),
    )
