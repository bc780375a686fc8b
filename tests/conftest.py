"""Fixtures of the whole suite: the backends are data, and a further one is one more line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import emulated_operators
import pytest
import torch

import deformwarp
from deformwarp.backends import BACKENDS
from deformwarp.native import available_isas

collect_ignore = ["typing"]  # for type checkers: one of its files is wrong on purpose


@dataclass(frozen=True)
class BackendUnderTest:
    """A backend, the instruction set where it has several, and the device on which tests make their tensors."""

    id: str
    backend: str
    isa: str | None = None
    device: str = "cpu"
    refuses: str | None = None  # what the backend says to problems that it does not take by design

    def why_not_here(self) -> str | None:
        if self.isa is not None and self.isa not in available_isas():
            return f"instruction set {self.isa} is not in this build or not on this processor"
        return BACKENDS[self.backend].why_not_here()

    @contextmanager
    def active(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(deformwarp.use_backend(self.backend))
            if self.isa is not None:
                stack.enter_context(deformwarp.use_isa(self.isa))
            if self.device != "cpu":
                stack.enter_context(torch.device(self.device))
            yield


@dataclass(frozen=True)
class EmulatedCuda(BackendUnderTest):
    """The CUDA kernels, run on the CPU in place of its own."""

    def why_not_here(self) -> str | None:
        return emulated_operators.why_not_here()

    @contextmanager
    def active(self) -> Iterator[None]:
        with super().active(), emulated_operators.emulated_kernels():
            yield


@dataclass(frozen=True)
class TritonOnGpu(BackendUnderTest):
    """Its gradient by the input is bitwise reproducible where asked for, and the suite compares bits."""

    @contextmanager
    def active(self) -> Iterator[None]:
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True, warn_only=True)  # what else PyTorch computes need not be
        try:
            with super().active():
                yield
        finally:
            torch.use_deterministic_algorithms(before)


REFERENCE = BackendUnderTest("reference", "reference")
KERNELS = (
    BackendUnderTest("cpu-avx512", "cpu", "avx512"),
    BackendUnderTest("cpu-avx2", "cpu", "avx2"),
    BackendUnderTest("cpu-plain", "cpu", "plain"),
    EmulatedCuda("cuda-emulated", "cpu"),
    BackendUnderTest("cuda", "cuda", device="cuda"),
    TritonOnGpu("triton", "triton", device="cuda", refuses="'triton' cannot .*: its tensors are float64"),
)


def _parameters(*backends: BackendUnderTest) -> list[Any]:
    return [
        pytest.param(backend, id=backend.id, marks=[] if backend.device == "cpu" else pytest.mark.gpu)
        for backend in backends
    ]


@contextmanager
def _backend(request: pytest.FixtureRequest) -> Iterator[BackendUnderTest]:
    reason = request.param.why_not_here()
    if reason is not None:
        pytest.skip(reason)
    with request.param.active():
        yield request.param


@pytest.fixture(params=_parameters(REFERENCE, *KERNELS))
def backend(request: pytest.FixtureRequest) -> Iterator[BackendUnderTest]:
    """Every backend, the reference formula included."""
    with _backend(request) as active:
        yield active


@pytest.fixture(params=_parameters(*KERNELS))
def kernels(request: pytest.FixtureRequest) -> Iterator[BackendUnderTest]:
    """Every backend that is not the reference itself, for comparisons with it."""
    with _backend(request) as active:
        yield active


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """For tests that change the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[object]:
    """A test of a problem that its backend refuses by design is skipped, with the backend's reason."""
    try:
        return (yield)
    except Exception as error:
        parameters = pyfuncitem.callspec.params.values() if hasattr(pyfuncitem, "callspec") else ()
        refusals = [p.refuses for p in parameters if isinstance(p, BackendUnderTest) and p.refuses is not None]
        for said in map(str, _chain(error)):
            if any(re.search(refusal, said) for refusal in refusals):
                pytest.skip(said)
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
