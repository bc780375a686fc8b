"""The Triton kernels compile for GPUs that are not here, with figures that are those of the table or better."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks.triton_figures import (
    TARGETS,
    Figures,
    all_figures,
    compiled,
    faults,
    instructions_and_loops,
    launches,
    record,
    recorded,
    run,
)
from benchmarks.workloads import MODES, Workload

GOOD = Figures(128, 0, 4096, 47.0, 4)


@pytest.fixture
def _compiled_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.usefixtures("_compiled_anew")
def test_kernels_compile_without_spills_with_matrix_instructions_and_no_worse_than_recorded(target: str) -> None:
    found = dict(all_figures(TARGETS[target]))
    assert len(found) == 7
    assert not faults(found, recorded().get(target, {}))  # nothing is recorded for other versions of Triton


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["forward", "backward"])
@pytest.mark.usefixtures("_compiled_anew")
def test_sizes_of_one_compile_though_triton_makes_constants_of_them(mode: str) -> None:
    # 130 output channels: too many for the planar kernels.
    alone = Workload("alone", "figures", 1, 1, 130, 9, 1, 1, kernel=(1, 1))
    target = TARGETS["sm_90"]
    kernels = launches(partial(run, alone, MODES[mode]), target.device)
    assert any(one.kernel.__name__.startswith("shared") for one in kernels)
    for one in kernels:
        assert compiled(one, target.gpu).asm["cubin"]


@pytest.mark.parametrize("version", ["3.9.0"])
def test_the_table_has_every_target_and_no_faults(version: str) -> None:
    table = recorded(version=version)
    assert table.keys() == TARGETS.keys()
    assert len({tuple(figures) for figures in table.values()}) == 1
    assert not [fault for figures in table.values() for fault in faults(figures, {})]


@pytest.mark.parametrize(
    ("figures", "fault"),
    [
        (replace(GOOD, registers=129), "kernel: registers: 129, was 128"),
        (replace(GOOD, shared_bytes=4100), "kernel: shared_bytes: 4100, was 4096"),
        (replace(GOOD, instructions_a_sample=47.5), "kernel: instructions_a_sample: 47.5, was 47.0"),
        (replace(GOOD, instructions_a_sample=None), "kernel: instructions_a_sample: None, was 47.0"),
        (replace(GOOD, matrix_instructions=2), "kernel: matrix_instructions: 2, was 4"),
        (replace(GOOD, matrix_instructions=0), "kernel: no matrix instructions"),
        (replace(GOOD, spilled_bytes=8), "kernel: 8 bytes of registers are spilled"),
    ],
    ids=["registers", "shared", "instructions", "no loop", "fewer matrix", "no matrix", "spills"],
)
def test_a_figure_that_is_worse_is_a_fault(figures: Figures, fault: str) -> None:
    assert fault in faults({"kernel": figures}, {"kernel": GOOD})


def test_a_figure_that_is_better_is_none() -> None:
    assert not faults({"kernel": Figures(120, 0, 2048, 40.0, 8)}, {"kernel": GOOD})


def test_a_loop_is_what_a_branch_backwards_encloses() -> None:
    code = """
    .L_x_1:
        /*0000*/   FADD R1, R1, R2 ;
        /*0010*/   @P0 BRA `(.L_x_2) ;
        /*0020*/   @P1 BRA `(.L_x_1) ;
    .L_x_2:
        /*0030*/   EXIT ;
    """
    instructions, loops = instructions_and_loops(code)
    assert instructions == ["FADD R1, R1, R2", "@P0 BRA `(.L_x_2)", "@P1 BRA `(.L_x_1)", "EXIT"]
    assert loops == [(0, 3)]


def test_what_is_recorded_for_one_version_leaves_the_others(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    record({"sm_90": {"kernel": GOOD}}, table, "1")
    record({"sm_80": {"kernel": replace(GOOD, registers=1)}}, table, "2")
    assert recorded(table, "1") == {"sm_90": {"kernel": GOOD}}
    assert recorded(table, "2") == {"sm_80": {"kernel": replace(GOOD, registers=1)}}
    assert recorded(table, "3") == {}
