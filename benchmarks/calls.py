"""One call of a peer: forward, backward with fresh gradients, or both."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.peers import Peer, Warp
from benchmarks.workloads import Inputs, Mode


@dataclass
class Outcome:
    """What a call gave."""

    output: Tensor
    gradients: dict[str, Tensor]

    def bytes(self, mode: Mode) -> int:
        """Size of the tensors that the call made."""
        made = (self.output, *self.gradients.values()) if mode.forward else self.gradients.values()
        return sum(tensor.untyped_storage().nbytes() for tensor in made)


def call(peer: Peer, warp: Warp, inputs: Inputs, mode: Mode) -> Outcome:
    """Runs once; ``inputs`` come from :meth:`Inputs.for_mode`."""
    output = _forward(peer, warp, inputs, mode)
    return _backward(peer, output, inputs) if mode.gradients else Outcome(output, {})


def prepared(peer: Peer, warp: Warp, inputs: Inputs, mode: Mode) -> Callable[[], Outcome]:
    """What is measured: calls, or backwards of a forward that has run."""
    if mode.forward:
        return functools.partial(call, peer, warp, inputs, mode)
    return functools.partial(_backward, peer, _forward(peer, warp, inputs, mode), inputs, again=True)


def _forward(peer: Peer, warp: Warp, inputs: Inputs, mode: Mode) -> Tensor:
    with peer.within(), torch.set_grad_enabled(mode.gradients):
        return warp(inputs)


def _backward(peer: Peer, output: Tensor, inputs: Inputs, again: bool = False) -> Outcome:
    tensors = inputs.named()
    with peer.within():
        gradients = torch.autograd.grad(
            output, [tensors[name] for name in inputs.names], inputs.grad_output, retain_graph=again
        )
    return Outcome(output.detach(), dict(zip(inputs.names, gradients, strict=True)))
