"""No time without the right numbers: every peer against the reference in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

import deformwarp
from benchmarks.calls import Outcome, call
from benchmarks.peers import PEERS, Peer, Warp
from benchmarks.workloads import MODES, Inputs, Mode, Workload
from deformwarp.accuracy import TOLERANCE

LARGEST_REFERENCE = 11_000_000  # bilinear samples; two PoseWarper frames


class WrongResultError(Exception):
    """A peer's result is not the reference's."""


def checked_samples(workload: Workload) -> list[int]:
    """The samples of the batch that are compared: all, or the first and last ones of a large batch.

    >>> from benchmarks.workloads import WORKLOADS
    >>> checked_samples(WORKLOADS["posewarper-384x288-n16"])
    [0, 15]
    """
    height, width = workload.out_size
    one = workload.branches * workload.channels * workload.taps * height * width
    count = max(1, min(workload.samples, LARGEST_REFERENCE // one))
    return [*range((count + 1) // 2), *range(workload.samples - count // 2, workload.samples)]


def _only(samples: list[int], grad_output: Tensor) -> Tensor:
    kept = torch.zeros_like(grad_output)
    kept[samples] = grad_output[samples]
    return kept


@contextmanager
def poisoned(peer: Peer) -> Iterator[None]:
    """Fresh memory is filled with NaN, so that what a peer does not write shows. Compiled peers would compile again."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    if not peer.compiled:
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = fill


class Gate:
    """The reference's result for one workload, computed once for all peers and modes."""

    def __init__(self, workload: Workload, inputs: Inputs) -> None:
        self.workload = workload
        self.samples = checked_samples(workload)
        self.whole = len(self.samples) == workload.samples
        mode = MODES["backward"]
        exact = inputs.batch(self.samples).map(Tensor.double).for_mode(mode)
        peer = PEERS["deformwarp"]
        with deformwarp.use_backend("reference"):
            self.expected = call(peer, peer.make(workload), exact, mode)

    def check(self, peer: Peer, warp: Warp, inputs: Inputs, mode: Mode) -> float:
        """Calls the peer and gives its largest relative error.

        Raises:
            WrongResultError: some error is too large.
        """
        inputs = inputs.for_mode(mode)
        if not self.whole:
            # Gradients by the weight sum over samples: the others must not take part.
            inputs.grad_output = _only(self.samples, inputs.grad_output)
        with poisoned(peer):
            outcome = call(peer, warp, inputs, mode)
        tolerance = peer.tolerance.get(self.workload.dtype, TOLERANCE[self.workload.torch_dtype])
        return max(self._error(name, *pair, tolerance) for name, pair in self._pairs(outcome).items())

    def _pairs(self, outcome: Outcome) -> dict[str, tuple[Tensor, Tensor]]:
        pairs = {"output": (outcome.output[self.samples], self.expected.output)}
        for name, gradient in outcome.gradients.items():
            per_sample = name.startswith(("input", "offsets", "masks"))
            if per_sample and not self.whole and self._others(gradient).count_nonzero() > 0:
                raise WrongResultError(f"gradient by {name}: samples without grad_output have one")
            pairs[f"gradient by {name}"] = (
                gradient[self.samples] if per_sample else gradient,
                self.expected.gradients[name],
            )
        return pairs

    def _others(self, gradient: Tensor) -> Tensor:
        first, last = (len(self.samples) + 1) // 2, len(self.samples) // 2
        return gradient[first : gradient.shape[0] - last]

    def _error(self, name: str, got: Tensor, expected: Tensor, tolerance: float) -> float:
        if got.shape != expected.shape or got.dtype != self.workload.torch_dtype:
            raise WrongResultError(f"{name}: is {got.dtype} {list(got.shape)}, expected {list(expected.shape)}")
        error = float((got.double() - expected).norm() / expected.norm())
        if not error <= tolerance:  # also for NaN
            raise WrongResultError(f"{name}: relative error {error:.1e}, allowed {tolerance:.0e}")
        return error
