"""Choosing a backend, choosing an instruction set, and the report of both."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from problems import BY_NAME, forward_and_gradients, problem_of

import deformwarp
from deformwarp import info, native, rules
from deformwarp.backends import BACKENDS, backend_for


def _rules_problem(device: str = "cpu") -> rules.Problem:
    x, weight = torch.rand(1, 1, 3, 3, device=device), torch.rand(1, 1, 1, 1, 1, device=device)
    return rules.Problem(x, [torch.zeros(1, 2, 3, 3, device=device)], [], weight, None, [1, 1], [0, 0], [1, 1])


def test_the_dispatcher_takes_the_cpu_kernels_for_cpu_tensors() -> None:
    assert backend_for(_rules_problem()) == "cpu"


def test_the_dispatcher_takes_the_reference_for_devices_without_kernels() -> None:
    assert backend_for(_rules_problem("meta")) == "reference"


@pytest.mark.parametrize("name", [name for name in BACKENDS if BACKENDS[name].why_not(_rules_problem()) is None])
def test_use_backend_forces_one_and_restores(name: str) -> None:
    with deformwarp.use_backend(name):
        assert backend_for(_rules_problem()) == name
    assert backend_for(_rules_problem()) == "cpu"


def test_use_backend_nests() -> None:
    with deformwarp.use_backend("reference"):
        with deformwarp.use_backend("cpu"):
            assert backend_for(_rules_problem()) == "cpu"
        assert backend_for(_rules_problem()) == "reference"


def test_use_backend_restores_after_an_exception() -> None:
    with pytest.raises(KeyError), deformwarp.use_backend("reference"):
        raise KeyError
    assert backend_for(_rules_problem()) == "cpu"


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"name: is 'abacus', but should be one of .*cpu"):
        deformwarp.use_backend("abacus").__enter__()


def test_a_backend_that_cannot_take_a_problem_says_why() -> None:
    problem = problem_of(BY_NAME["one_pixel"]).map(lambda tensor: tensor.to("meta"))
    with (
        deformwarp.use_backend("cpu"),
        pytest.raises(RuntimeError, match="backend 'cpu' cannot take this problem: its tensors are on meta"),
    ):
        problem.warp()


def test_use_backend_changes_what_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    from deformwarp import reference

    calls = []
    formula = reference.warp
    monkeypatch.setattr(reference, "warp", lambda *args: calls.append(1) or formula(*args))
    problem = problem_of(BY_NAME["one_pixel"])
    problem.warp()
    assert not calls
    with deformwarp.use_backend("reference"):
        problem.warp()
    assert calls


def test_the_reference_takes_meta_tensors() -> None:
    problem = problem_of(BY_NAME["masks_bias_groups"]).map(lambda tensor: tensor.to("meta"))
    with deformwarp.use_backend("reference"):
        results = forward_and_gradients(problem)
    assert results["output"].shape == problem.grad_output.shape
    assert all(results[name].shape == leaf.shape for name, leaf in problem.leaves().items())


@pytest.mark.parametrize("isa", native.available_isas())
def test_use_isa_forces_one_and_restores(isa: str) -> None:
    before = native.current_isa()
    with deformwarp.use_isa(isa):
        assert native.current_isa() == isa
    assert native.current_isa() == before


def test_use_isa_restores_after_an_exception() -> None:
    before = native.current_isa()
    with pytest.raises(KeyError), deformwarp.use_isa("plain"):
        raise KeyError
    assert native.current_isa() == before


def test_an_unknown_isa_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"isa: is 'mmx', but should be one of .*plain"):
        deformwarp.use_isa("mmx").__enter__()


def test_the_widest_isa_is_the_default() -> None:
    assert native.current_isa() == native.available_isas()[0]


def test_the_report_has_every_backend_the_isas_and_the_threads() -> None:
    report = info.report()
    assert {f"backend {name}" for name in BACKENDS} <= report.keys()
    assert report["torch"] == torch.__version__
    assert report["CPU instruction set"].startswith(native.current_isa())
    assert all(isa in report["CPU instruction set"] for isa in native.available_isas())
    assert report["threads"] == str(torch.get_num_threads())


def test_the_report_follows_use_isa() -> None:
    with deformwarp.use_isa("plain"):
        assert info.report()["CPU instruction set"].startswith("plain ")


@pytest.mark.slow
def test_python_m_deformwarp_info_prints_the_report() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "deformwarp.info"], check=True, capture_output=True, text=True
    ).stdout
    for label, text in info.report().items():
        assert f"{label}:" in printed
        assert label == "threads" or text in printed


@pytest.mark.parametrize("name", BACKENDS)
def test_a_required_backend_decides_the_exit_status(name: str) -> None:
    assert info.main(["--require", name]) == int(BACKENDS[name].why_not_here() is not None)
    assert info.main([]) == 0
