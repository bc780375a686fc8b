"""Builds the compiled library by CMake and Ninja; everything else about the package is in pyproject.toml."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent


class MissingRequirement(SystemExit):
    """Something the build needs is not there; the message says what to do about it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"deformwarp: {what}: {remedy}")


def torch_directory() -> Path:
    """The folder of the torch that this Python would import, found without importing it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise MissingRequirement("torch is missing", "run `pip install 'torch>=2.11'`, then build again")
    folder = Path(next(iter(spec.submodule_search_locations)))
    if not (folder / "include/torch/csrc/stable/library.h").exists():
        raise MissingRequirement(f"the torch in {folder} is too old", "run `pip install 'torch>=2.11'`")
    return folder


def pybind11_directory() -> Path:
    """The folder with pybind11's CMake package."""
    spec = importlib.util.find_spec("pybind11")
    if spec is None or not spec.submodule_search_locations:
        raise MissingRequirement("pybind11 is missing", "run `pip install pybind11`, then build again")
    return Path(next(iter(spec.submodule_search_locations))) / "share/cmake/pybind11"


def executable(name: str) -> str:
    """A build tool's path: from this Python's environment if it is there, else from the system."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise MissingRequirement(f"{name} is missing", f"run `pip install {name}`, then build again")
    return found


def check_compiler() -> None:
    """A C++ compiler must be there; CMake itself says when it is too old."""
    wanted = os.environ.get("CXX")
    if wanted is not None and shutil.which(wanted.split()[0]) is None:
        raise MissingRequirement(f"CXX={wanted} is not a program", "set CXX to a C++20 compiler, or unset it")
    if wanted is None and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise MissingRequirement("no C++ compiler was found", "install g++ >= 11 or clang++ >= 14, or set CXX")


class CMakeBuild(build_ext):
    """Configures, builds and installs the CMake project into the place setuptools wants."""

    def run(self) -> None:
        check_compiler()
        build = Path(self.build_temp).absolute()
        prefix = build / "install"
        cmake = executable("cmake")
        configure = [
            cmake, "-S", str(ROOT), "-B", str(build), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
            f"-DCMAKE_MAKE_PROGRAM={executable('ninja')}",
            f"-DCMAKE_INSTALL_PREFIX={prefix}",
            f"-DDEFORMWARP_TORCH_DIR={torch_directory()}",
            f"-Dpybind11_DIR={pybind11_directory()}",
            f"-DPython_EXECUTABLE={sys.executable}",
        ]  # fmt: skip
        for command in (configure, [cmake, "--build", str(build)], [cmake, "--install", str(build)]):
            if subprocess.run(command, check=False).returncode != 0:
                raise MissingRequirement(
                    "CMake could not build the library",
                    "its messages above say why; it needs a C++20 compiler (g++ >= 11, clang++ >= 14) and the Python headers",
                )
        target = Path(self.get_ext_fullpath("deformwarp._C"))
        target.parent.mkdir(parents=True, exist_ok=True)
        (library,) = (prefix / "deformwarp").glob("_C*")
        shutil.copy2(library, target)


setup(ext_modules=[Extension("deformwarp._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
