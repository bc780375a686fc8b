"""Where the Triton kernels run, which problems they take, and the reasons they give where not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import deformwarp
from deformwarp import info, ops, rules
from deformwarp.backends import BACKENDS, backend_for
from deformwarp.triton import availability, operators


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    availability._why_no_triton.cache_clear()
    yield
    availability._why_no_triton.cache_clear()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine with an NVIDIA GPU, as torch describes it; ``capability`` may be changed."""
    machine = SimpleNamespace(capability=(9, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: machine.capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "GPU")
    return machine


def problem_on(device: str, dtype: torch.dtype = torch.float32, branches: int = 1, padding: int = 0) -> rules.Problem:
    """One pixel, without memory."""
    side = 1 + 2 * padding
    with FakeTensorMode():
        x, weight, offset = (
            torch.empty(shape, dtype=dtype, device=device)
            for shape in ((1, 1, 1, 1), (branches, 1, 1, 1, 1), (1, 2, side, side))
        )
    return rules.Problem(
        x, [offset] * branches, [], weight, None, [1, 1], [padding, padding] * branches, [1, 1] * branches
    )


def test_importing_deformwarp_imports_no_triton() -> None:
    command = "import sys, deformwarp; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], timeout=300).returncode == 0


def test_without_triton_the_report_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    assert info.report()["backend triton"] == "not available: Triton is not installed: pip install triton"


def test_an_old_triton_is_named_with_the_oldest_that_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.5.1"))
    assert availability.why_not_here() == "Triton 3.5.1 is older than 3.6"


def test_amds_gpus_need_a_newer_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "7.0")
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.8.0"))
    assert availability.why_not_here() == "Triton 3.8.0 is older than 3.9"


def test_a_triton_that_does_not_load_says_what_it_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "triton.py").write_text("raise RuntimeError('no driver')")
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert availability.why_not_here() == "Triton does not load: no driver"


def test_a_machine_without_a_gpu_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert availability.why_not_here() == "torch sees no NVIDIA or AMD GPU"


def test_an_old_gpu_is_told_what_is_needed(gpu: SimpleNamespace) -> None:
    gpu.capability = (7, 5)
    reason = "its kernels need compute capability 8.0, and the GPU has 7.5"
    assert availability.why_not_here() == reason
    assert availability.why_not(problem_on("cuda")) == reason


@pytest.mark.usefixtures("gpu")
def test_one_gpu_that_will_do_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: [(7, 5), (8, 6)][device])
    assert availability.why_not_here() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.usefixtures("gpu")
def test_problems_on_a_gpu_are_taken(dtype: torch.dtype) -> None:
    assert availability.why_not(problem_on("cuda", dtype, branches=32)) is None


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (problem_on("cpu"), "its tensors are on cpu, and these kernels run on cuda"),
        (problem_on("cuda", torch.float64), "its tensors are float64, and these kernels compute in float32"),
        (problem_on("cuda", branches=33), "it has 33 branches, and these kernels take at most 32"),
        (
            problem_on("cuda", padding=23170),
            "its output is 46341 x 46341 pixels, and these kernels count them in 32 bits",
        ),
    ],
    ids=["cpu", "float64", "branches", "pixels"],
)
@pytest.mark.usefixtures("gpu")
def test_other_problems_are_refused_with_the_reason(problem: rules.Problem, reason: str) -> None:
    assert availability.why_not(problem) == reason


@pytest.mark.parametrize(
    ("cuda", "triton", "chosen"),
    [(None, None, "cuda"), ("not built", None, "triton"), ("not built", "too old", "reference")],
    ids=["cuda", "triton", "reference"],
)
def test_triton_comes_after_cuda_and_before_the_formula(
    cuda: str | None, triton: str | None, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, reason in (("cuda", cuda), ("triton", triton)):
        backend = replace(BACKENDS[name], why_not=lambda problem, reason=reason: reason)
        monkeypatch.setitem(BACKENDS, name, backend)
    assert backend_for(problem_on("cuda")) == chosen


@pytest.mark.usefixtures("gpu")
def test_a_problem_that_falls_back_to_the_formula_warns_once_with_the_reason() -> None:
    operators._warn_of_formula.cache_clear()
    problem = problem_on("cuda", torch.float64)
    arguments = (problem.input, problem.offsets, [], problem.weight, None, [1, 1], [0, 0], [1, 1])
    with pytest.warns(UserWarning, match="backend 'triton' .*: its tensors are float64, .* backend 'reference' takes"):
        assert not operators._takes(*arguments)
    assert not operators._takes(*arguments)  # pytest turns no warning into an error, but the cache holds it back
    assert operators._warn_of_formula.cache_info().hits == 1


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_the_cuda_kernels_do_not_serve_warns_once_that_triton_takes_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ops.warn_of_fallback.cache_clear()
    monkeypatch.setattr(operators.native, "CUDA_ARCHITECTURES", "75-real")
    problem = problem_on("cuda")
    with pytest.warns(UserWarning, match=r"'cuda' was built for 75-real .* GPU \(sm_90\): backend 'triton' takes over"):
        assert operators._takes(problem.input, problem.offsets, [], problem.weight, None, [1, 1], [0, 0], [1, 1])


def test_use_backend_refuses_what_triton_cannot_take() -> None:
    x, offset, weight = torch.rand(1, 1, 2, 2), torch.zeros(1, 2, 2, 2), torch.rand(1, 1, 1, 1)
    with (
        deformwarp.use_backend("triton"),
        pytest.raises(RuntimeError, match="backend 'triton' cannot take this problem: its tensors are on cpu"),
    ):
        deformwarp.deform_conv2d(x, offset, weight)
