"""The other side of ptx.h: nvcc takes the same sources, for the oldest architecture and for newer ones."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from emulator import CUDA_SOURCES, HERE

nvcc = shutil.which("nvcc")
pytestmark = pytest.mark.skipif(nvcc is None, reason="needs nvcc")
TOYS = sorted(path.stem for path in (HERE / "toys").glob("*.cu"))


def build(source: Path, target: Path, *options: str) -> str:
    include = [f"-I{CUDA_SOURCES}", f"-I{HERE}"]
    command = [str(nvcc), "-std=c++17", "-Werror=all-warnings", *options, *include, str(source), "-o", str(target)]
    result = subprocess.run(command, text=True, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("toy", TOYS)
def test_nvcc_compiles_a_toy_for_every_architecture_without_spills(toy: str, tmp_path: Path) -> None:
    codes = [f"-gencode=arch=compute_{sm},code=sm_{sm}" for sm in (75, 80, 90, 120)]
    report = build(HERE / f"toys/{toy}.cu", tmp_path / "toy.fatbin", "-fatbin", "-Xptxas=-v", *codes)
    assert report.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == 4, report


INSTRUCTIONS = {  # what must stand in the PTX of a toy for sm_90
    "transpose": ["ld.global.nc.f32", "st.shared.f32", "bar.sync", "ld.shared.f32"],
    "reduction": ["shfl.sync.down", "membar.gl", "atom.global.add.u32", "ld.global.cg.f32"],
    "product": ["cp.async.cg.shared.global", "cp.async.wait_group", "bar.warp.sync", "mma.sync.aligned.m16n8k16"],
    "additions": ["atom.shared.add.u32", "red.global.add.v2.f32", "red.global.add.v4.f32"],
    "instructions": ["fma.rn.relu.bf16x2", "movmatrix.sync", "cvt.rna.tf32", "fma.rn.sat.f32", "vote.sync.ballot"],
}


@pytest.mark.slow
@pytest.mark.parametrize("toy", INSTRUCTIONS)
def test_the_functions_become_the_instructions(toy: str, tmp_path: Path) -> None:
    build(HERE / f"toys/{toy}.cu", tmp_path / "toy.ptx", "-ptx", "-arch=sm_90")
    ptx = (tmp_path / "toy.ptx").read_text()
    missing = [instruction for instruction in INSTRUCTIONS[toy] if instruction not in ptx]
    assert not missing
