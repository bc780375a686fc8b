"""Fixtures of the whole suite: the backends are data, and a further one is one more line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import emulated_operators
import pytest
import torch

import deformwarp
from deformwarp.backends import BACKENDS
from deformwarp.native import available_isas


@dataclass(frozen=True)
class BackendUnderTest:
    """A backend, and the instruction set where it has several."""

    id: str
    backend: str
    isa: str | None = None

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


REFERENCE = BackendUnderTest("reference", "reference")
KERNELS = (
    BackendUnderTest("cpu-avx512", "cpu", "avx512"),
    BackendUnderTest("cpu-avx2", "cpu", "avx2"),
    BackendUnderTest("cpu-plain", "cpu", "plain"),
    EmulatedCuda("cuda-emulated", "cpu"),
)


@contextmanager
def _backend(request: pytest.FixtureRequest) -> Iterator[BackendUnderTest]:
    reason = request.param.why_not_here()
    if reason is not None:
        pytest.skip(reason)
    with request.param.active():
        yield request.param


@pytest.fixture(params=(REFERENCE, *KERNELS), ids=lambda backend: backend.id)
def backend(request: pytest.FixtureRequest) -> Iterator[BackendUnderTest]:
    """Every backend, the reference formula included."""
    with _backend(request) as active:
        yield active


@pytest.fixture(params=KERNELS, ids=lambda backend: backend.id)
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


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a second")
