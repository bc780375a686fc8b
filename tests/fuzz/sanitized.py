"""Kernels that check themselves: the library compiled once more, with sanitizers, into a copy of the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "sanitized"
PACKAGE = BUILD / "package"


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout.strip()


def _build() -> None:
    """Configures and compiles what has changed; no CUDA kernels, which run on no CPU."""
    import pybind11
    import torch

    tools = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}
    commands = [
        [
            "cmake", "-S", str(ROOT), "-B", str(BUILD), "-G", "Ninja", "-DDEFORMWARP_SANITIZE=ON",
            "-DCMAKE_CUDA_COMPILER=NOTFOUND",
            f"-DCMAKE_INSTALL_PREFIX={BUILD / 'install'}",
            f"-DDEFORMWARP_TORCH_DIR={Path(torch.__file__).parent}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DPython_EXECUTABLE={sys.executable}",
        ],
        ["cmake", "--build", str(BUILD)],
        ["cmake", "--install", str(BUILD)],
    ]  # fmt: skip
    for command in commands:
        subprocess.run(command, env=os.environ | tools, stdout=sys.stderr, check=True)


def _assemble() -> None:
    """The package's Python files around the sanitized library."""
    shutil.rmtree(PACKAGE, ignore_errors=True)
    shutil.copytree(ROOT / "deformwarp", PACKAGE / "deformwarp", ignore=shutil.ignore_patterns("_C*.so", "__pycache__"))
    (library,) = (BUILD / "install" / "deformwarp").glob("_C*")
    shutil.copy2(library, PACKAGE / "deformwarp")


def _runtime(name: str) -> str:
    return _output(os.environ.get("CXX", "c++"), f"-print-file-name={name}")


def sanitized_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Builds, and gives what a Python process needs to import the sanitized package in place of the installed one."""
    _build()
    _assemble()
    return {
        "PYTHONPATH": os.pathsep.join([str(PACKAGE), environment.get("PYTHONPATH", "")]),
        # Python itself is not sanitized: the runtime has to be there before it; and what it throws through, too.
        "LD_PRELOAD": f"{_runtime('libasan.so')} {_runtime('libstdc++.so.6')}",
        # Python leaks on purpose.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
