"""The compiled library as ``cuobjdump`` shows it: the resources of its kernels, and their machine code."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 120


def cuobjdump() -> str | None:
    """From CUDA, or as Triton ships it; None where there is neither."""
    triton = importlib.util.find_spec("triton")
    shipped = Path(triton.origin).parent / "backends/nvidia/bin/cuobjdump" if triton and triton.origin else None
    return shutil.which("cuobjdump") or (str(shipped) if shipped and shipped.exists() else None)


def _printed(*arguments: str) -> str:
    tool = cuobjdump()
    if tool is None:
        raise FileNotFoundError(
            "cuobjdump: is neither on the PATH nor in a triton package, and should be in one of them"
        )
    return subprocess.run([tool, *arguments], text=True, capture_output=True, check=True, timeout=SECONDS).stdout


def nvcc_version() -> str | None:
    """Of the compiler on the PATH: other versions give other figures."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    printed = subprocess.run([nvcc, "--version"], text=True, capture_output=True, check=True, timeout=SECONDS).stdout
    found = re.search(r"release (\S+), V(\S+)", printed)
    return found[2] if found else None


def readable(mangled: str) -> str:
    """A kernel's name with its template arguments, without namespaces and parameters.

    >>> readable("_ZN10deformwarp4cuda7general15general_forwardINS0_8BFloat16ELi32EEEvNS1_13ForwardParamsE")
    'general_forward<BFloat16, 32>'
    """
    demangle = ctypes.CDLL("libstdc++.so.6").__cxa_demangle
    demangle.restype = ctypes.c_void_p
    status = ctypes.c_int()
    text = demangle(mangled.encode(), None, None, ctypes.byref(status))
    if not text:
        return mangled
    name = ctypes.string_at(text).decode()
    ctypes.CDLL(None).free(ctypes.c_void_p(text))
    name = name.removeprefix("void ").replace("(anonymous namespace)::", "").replace("(bool)1", "true")
    name = re.sub(r"\((?:int|bool)\)", "", name.replace("(bool)0", "false"))
    name = re.sub(r"\b(?:\w+::)+", "", name)
    return name.partition("(")[0]


@dataclass(frozen=True)
class Resources:
    """What one kernel takes on one architecture."""

    kernel: str  # readable
    mangled: str
    architecture: int
    registers: int
    stack: int  # bytes a thread
    local: int  # bytes a thread, of spills too
    shared: int  # bytes a block, beside the dynamic ones


def resources(library: Path) -> list[Resources]:
    """Of every kernel on every architecture that the library has machine code for."""
    found = []
    for part in re.split(r"^arch = ", _printed("--dump-resource-usage", str(library)), flags=re.MULTILINE)[1:]:
        architecture = re.match(r"sm_(\d+)", part)
        assert architecture is not None
        pattern = r"Function (\S+):\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)"
        for mangled, *numbers in re.findall(pattern, part):
            registers, stack, shared, local = map(int, numbers)
            found.append(Resources(readable(mangled), mangled, int(architecture[1]), registers, stack, local, shared))
    return sorted(found, key=lambda one: (one.kernel, one.architecture))


def machine_code(library: Path, architecture: int, mangled: Sequence[str]) -> dict[str, str]:
    """The disassembly of some kernels on one architecture, by mangled name."""
    printed = _printed(
        "--dump-sass", "--gpu-architecture", f"sm_{architecture}", "--function", ",".join(mangled), str(library)
    )
    parts = re.split(r"^\s*Function : (\S+)\n", printed, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))
