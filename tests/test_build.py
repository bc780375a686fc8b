"""The build: one sentence where something is missing, a library that belongs to no machine, no torch replaced."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from deformwarp import native

ROOT = Path(__file__).parents[1]
LIBRARY = Path(native._C.__file__)

# setup.py, where this Python finds neither the named packages nor the named programs.
SETUP = """
import importlib.util, runpy, shutil, sys
setup, missing, build = sys.argv[1], sys.argv[2].split(","), sys.argv[3]
find_spec, which = importlib.util.find_spec, shutil.which
importlib.util.find_spec = lambda name, *rest: None if name in missing else find_spec(name, *rest)
shutil.which = lambda name, *rest, **more: None if name in missing else which(name, *rest, **more)
sys.argv = [setup, "--quiet", "build_ext", "--build-temp", build, "--build-lib", build]
runpy.run_path(setup, run_name="__main__")
"""


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("CXX", "PYTHONPATH")}
    return subprocess.run(
        command, cwd=cwd, env=kept | environment, text=True, capture_output=True, check=False, timeout=300
    )


def setup_without(missing: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-c", SETUP, str(ROOT / "setup.py"), missing, str(folder)], folder, **environment)


def fake_torch(folder: Path, version: str) -> Path:
    (folder / "torch").mkdir()
    (folder / "torch/__init__.py").touch()
    (folder / "torch/version.py").write_text(f"__version__ = '{version}'\n")
    return folder / "torch"


def check_sentence(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    (sentence,) = result.stderr.strip().splitlines()
    assert sentence.startswith("deformwarp: ")
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("torch", ["torch is missing", "pip install 'torch>=2.11'"]),
        ("pybind11", ["pybind11 is missing", "pip install pybind11"]),
        ("cmake", ["cmake is missing", "pip install cmake"]),
        ("ninja", ["ninja is missing", "pip install ninja"]),
        ("c++,g++,clang++", ["no C++ compiler was found", "install g++ >= 11 or clang++ >= 14"]),
    ],
)
def test_a_missing_requirement_is_one_sentence(missing: str, words: list[str], tmp_path: Path) -> None:
    check_sentence(setup_without(missing, tmp_path), *words)


@pytest.mark.parametrize("version", ["2.10.1+cpu", "1.13.0"])
def test_an_old_torch_is_one_sentence(version: str, tmp_path: Path) -> None:
    fake_torch(tmp_path, version)
    result = setup_without("", tmp_path, PYTHONPATH=str(tmp_path))
    check_sentence(result, f"torch {version} is too old", "pip install 'torch>=2.11'")


def test_missing_python_headers_are_one_sentence(tmp_path: Path) -> None:
    code = f"import sysconfig; sysconfig.get_path = lambda name, *rest: {str(tmp_path)!r}\n{SETUP}"
    result = run([sys.executable, "-c", code, str(ROOT / "setup.py"), "", str(tmp_path)], tmp_path)
    check_sentence(result, "no Python.h", "python3-dev")


@pytest.mark.parametrize("kind", ["absent", "no compiler", "too old"])
def test_a_wrong_compiler_is_one_sentence(kind: str, tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"
    if kind != "absent":
        compiler.write_text("#!/bin/sh\necho 201709L\n" if kind == "too old" else "#!/bin/sh\n")
        compiler.chmod(0o755)
    complaint = "is not a program" if kind == "absent" else "is no C++20 compiler"
    check_sentence(setup_without("", tmp_path, CXX=str(compiler)), str(compiler), complaint, "g++ >= 11", "set CXX")


@pytest.mark.slow
def test_pip_shows_the_sentence(tmp_path: Path) -> None:
    for name in ("setup.py", "pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "deformwarp").mkdir()
    (tmp_path / "deformwarp/__init__.py").touch()
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "wheels", "."]
    result = run(pip, tmp_path, CXX="no-such-compiler")
    assert result.returncode != 0
    assert "deformwarp: CXX=no-such-compiler is not a program: install g++ >= 11" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def configure(build: Path, *options: str) -> subprocess.CompletedProcess[str]:
    found = {
        name: shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
        for name in ("cmake", "ninja")
    }
    if None in found.values():
        pytest.skip("needs cmake and ninja")
    command = [str(found["cmake"]), "-S", str(ROOT), "-B", str(build), "-G", "Ninja", *options]
    return run([*command, f"-DCMAKE_MAKE_PROGRAM={found['ninja']}"], build)


@pytest.mark.parametrize("version", [None, "2.10.0"])
def test_cmake_without_a_new_enough_torch_is_one_sentence(version: str | None, tmp_path: Path) -> None:
    options = [] if version is None else [f"-DDEFORMWARP_TORCH_DIR={fake_torch(tmp_path, version)}"]
    result = configure(tmp_path, *options)
    assert result.returncode != 0
    message = " ".join(result.stderr.split())
    assert "holds no torch >= 2.11: run `pip install 'torch>=2.11'`" in message
    assert message.count("CMake Error") == 1


def test_architectures_that_are_none_are_one_sentence(tmp_path: Path) -> None:
    check_sentence(
        setup_without("", tmp_path, DEFORMWARP_CUDA_ARCHITECTURES="90-real;hopper"),
        "DEFORMWARP_CUDA_ARCHITECTURES=90-real;hopper",
        "80-real;90-real",
    )


def configure_all(build: Path, *options: str) -> str:
    """What CMake says where everything is there."""
    pybind11 = pytest.importorskip("pybind11")
    result = configure(
        build,
        f"-DDEFORMWARP_TORCH_DIR={Path(torch.__file__).parent}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DPython_EXECUTABLE={sys.executable}",
        *options,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("-DCMAKE_CUDA_COMPILER=NOTFOUND", "no nvcc found"),
        ("-DDEFORMWARP_CUDA_ARCHITECTURES=none", "DEFORMWARP_CUDA_ARCHITECTURES=none"),
    ],
    ids=["without_nvcc", "not_wanted"],
)
def test_cmake_says_once_that_cuda_kernels_are_skipped(option: str, reason: str, tmp_path: Path) -> None:
    said = configure_all(tmp_path, option)
    assert said.count("deformwarp: CUDA kernels skipped: ") == 1
    assert f"skipped: {reason}" in said


# CMake takes a compiler's version from a program that it compiles: nvcc, but for the version in that.
OTHER_NVCC = """#!/bin/sh
for file; do
  case $file in
    *CMakeCUDACompilerId.cu)
      sed -i 's/DEC(__CUDACC_VER_MAJOR__)/DEC({0})/; s/DEC(__CUDACC_VER_MINOR__)/DEC({1})/' "$file" ;;
  esac
done
exec {nvcc} "$@"
"""


def nvcc_of_version(version: str, folder: Path) -> str:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("needs nvcc")
    other = folder / "nvcc"
    other.write_text(OTHER_NVCC.format(*version.split("."), nvcc=nvcc))
    other.chmod(0o755)
    return f"-DCMAKE_CUDA_COMPILER={other}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("11.8", "CUDA kernels skipped: .*/nvcc is version 11.8.*, and 12.0 the oldest that compiles them"),
        ("12.7", "CUDA kernels for 75-real;80-real;90-real;90-virtual by"),
        ("12.8", "CUDA kernels for 75-real;80-real;90-real;100-real;120-real;120-virtual by"),
    ],
)
def test_an_nvcc_gets_the_architectures_that_it_knows(version: str, words: str, tmp_path: Path) -> None:
    assert re.search(f"deformwarp: {words}", configure_all(tmp_path, nvcc_of_version(version, tmp_path)))


def test_the_installation_needs_any_torch_and_numpy_only() -> None:
    core = {line for line in importlib.metadata.requires("deformwarp") or [] if "extra ==" not in line}
    assert core == {"torch>=2.11", "numpy"}


def test_import_needs_no_gpu_driver_or_compiler(tmp_path: Path) -> None:
    code = (
        "import torch, deformwarp\n"
        "assert not torch.cuda.is_available()\n"
        "print(deformwarp.deform_conv2d(torch.ones(1, 1, 4, 4), torch.zeros(1, 18, 4, 4), torch.ones(1, 1, 3, 3),"
        " padding=1).sum().item())"
    )
    result = run([sys.executable, "-c", code], ROOT, CUDA_VISIBLE_DEVICES="", PATH=str(tmp_path))
    assert result.stdout.strip() == "100.0", result.stderr


def test_the_library_names_no_folder_to_load_from() -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("needs readelf")
    dynamic = run([readelf, "--dynamic", "--wide", str(LIBRARY)], ROOT).stdout
    assert "NEEDED" in dynamic
    assert not re.search(r"\((RPATH|RUNPATH)\)", dynamic)
    assert not re.search(r"NEEDED.*(cuda|cudart|/)", dynamic)


def test_the_library_holds_no_path_of_the_building_machine() -> None:
    data = LIBRARY.read_bytes()
    assert re.findall(rb"\0(/[^\0]*\.(?:h|hpp|cpp|cu|cuh))(?=\0)", data) == []
    for folder in (ROOT, Path(torch.__file__).parent):
        assert os.fsencode(folder) + b"/" not in data
