"""The package's operators by the CUDA kernels, run on the CPU: the whole library above them stays as it is."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from emulator import HERE, ROOT, Emulator, compiled, compiler, linked

ARCHITECTURES = "75-real 80-real 90-real 100-real 120-real 120-virtual"
TORCH = Path(torch.__file__).parent
TORCH_FLAGS = (
    "-std=c++20",
    f"-isystem{TORCH / 'include'}",
    f"-isystem{TORCH / 'include/torch/csrc/api/include'}",
    "-DTORCH_TARGET_VERSION=0x020b000000000000",
    "-DTORCH_STABLE_ONLY",
    f'-DDEFORMWARP_CUDA_ARCHITECTURES="{ARCHITECTURES}"',
)


def why_not_here() -> str | None:
    """Why this machine cannot emulate the kernels, or None."""
    return None if compiler() is not None else "the emulation needs a C++ compiler (g++, or set CXX)"


@functools.cache
def emulator() -> Emulator:
    """The kernels and their glue, compiled for the CPU; their operators are torch.ops.deformwarp_emulated."""
    sources = sorted(set(ROOT.glob("csrc/cuda/*.cu")) - {ROOT / "csrc/cuda/runtime.cu"})  # the emulator stands for it
    glue = (ROOT / "csrc/torch/cuda.cpp", HERE / "glue/emulated_operators.cpp")
    objects = [compiled(source, ["-xc++"]) for source in sources] + [compiled(source, TORCH_FLAGS) for source in glue]
    library = linked("operators", objects, [str(TORCH / "lib/libtorch_cpu.so")])
    return Emulator(library)


@contextmanager
def emulated_kernels(seed: int = 0) -> Iterator[Emulator]:
    """Within the block, the operators on CPU tensors run the CUDA kernels, their threads in an order of the seed."""
    emulated = emulator()
    emulated.seed(seed)
    override = torch.library.Library("deformwarp", "IMPL")
    override.impl("warp", torch.ops.deformwarp_emulated.warp.default, "CPU", allow_override=True)
    override.impl("warp_backward", torch.ops.deformwarp_emulated.warp_backward.default, "CPU", allow_override=True)
    try:
        yield emulated
    finally:
        override._destroy()
