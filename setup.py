"""Builds the compiled library by CMake and Ninja; everything else about the package is in pyproject.toml."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).absolute().parent
OLDEST_TORCH = (2, 11)


class MissingRequirement(SystemExit):
    """Something the build needs is not there; the message says what to do about it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"deformwarp: {what}: {remedy}")


def package_directory(name: str) -> Path | None:
    """The folder of the package that this Python would import, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def torch_directory() -> Path:
    """The folder of a torch that has the stable interface the sources are written for."""
    folder = package_directory("torch")
    install = "run `pip install 'torch>=2.11'`, then build again"
    if folder is None or not (folder / "version.py").exists():
        raise MissingRequirement("torch is missing", install)
    version = re.search(r"^__version__.*['\"]((\d+)\.(\d+).*)['\"]", (folder / "version.py").read_text(), re.MULTILINE)
    if version is None or (int(version[2]), int(version[3])) < OLDEST_TORCH:
        raise MissingRequirement(f"torch {version[1] if version else 'of an unknown version'} is too old", install)
    return folder


def pybind11_directory() -> Path:
    """The folder with pybind11's CMake package."""
    folder = package_directory("pybind11")
    if folder is None:
        raise MissingRequirement("pybind11 is missing", "run `pip install pybind11`, then build again")
    return folder / "share/cmake/pybind11"


def cuda_architectures() -> str:
    """CMake's option for the architectures of the CUDA kernels: its default, or what the environment asks for."""
    name = "DEFORMWARP_CUDA_ARCHITECTURES"
    asked = os.environ.get(name, "")
    entries = re.split(r"[;, ]+", asked.strip())
    if not asked.strip():
        return f"-U{name}"  # not what an earlier build was asked for
    if entries != ["none"] and not all(re.fullmatch(r"\d{2,3}(-real|-virtual)?", entry) for entry in entries):
        raise MissingRequirement(
            f"{name}={asked} is no list of architectures", "write it as 80-real;90-real;90-virtual, or none"
        )
    return f"-D{name}={';'.join(entries)}"


def executable(name: str) -> str:
    """A build tool's path: from this Python's environment if it is there, else from the system."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise MissingRequirement(f"{name} is missing", f"run `pip install {name}`, then build again")
    return found


def check_compiler() -> None:
    """A C++20 compiler must be there."""
    remedy = "install g++ >= 11 or clang++ >= 14, or set CXX to one"
    named = os.environ.get("CXX")
    command = shlex.split(named) if named else [*filter(shutil.which, ("c++", "g++", "clang++"))][:1]
    if not command:
        raise MissingRequirement("no C++ compiler was found", remedy)
    if shutil.which(command[0]) is None:
        raise MissingRequirement(f"CXX={named} is not a program", remedy)
    trial = subprocess.run(
        [*command, "-std=c++20", "-E", "-P", "-x", "c++", "-"],
        input="__cplusplus",
        text=True,
        capture_output=True,
        check=False,
    )
    if trial.stdout.strip() != "202002L":
        raise MissingRequirement(f"{shlex.join(command)} is no C++20 compiler", remedy)


def check_python_headers() -> None:
    """Systems package them apart from Python itself."""
    folder = Path(sysconfig.get_path("include"))
    if not (folder / "Python.h").exists():
        raise MissingRequirement(f"{folder} has no Python.h", "install the Python headers (python3-dev, python3-devel)")


class CMakeBuild(build_ext):
    """Configures, builds and installs the CMake project into the place setuptools wants."""

    def run(self) -> None:
        check_compiler()
        check_python_headers()
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
            cuda_architectures(),
        ]  # fmt: skip
        for command in (configure, [cmake, "--build", str(build)], [cmake, "--install", str(build)]):
            if subprocess.run(command, check=False).returncode != 0:
                raise MissingRequirement("CMake could not build the library", "its messages above say what is wrong")
        target = Path(self.get_ext_fullpath("deformwarp._C"))
        target.parent.mkdir(parents=True, exist_ok=True)
        (library,) = (prefix / "deformwarp").glob("_C*")
        shutil.copy2(library, target)


if __name__ == "__main__":
    # Named for the source distribution only: CMake knows what it compiles.
    native = ["CMakeLists.txt", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("csrc/**/*.*")))]
    setup(ext_modules=[Extension("deformwarp._C", sources=[], depends=native)], cmdclass={"build_ext": CMakeBuild})
