"""One call of a peer: forward, or forward and backward with fresh gradients."""

from __future__ import annotations

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

    def bytes(self) -> int:
        """Size of the tensors."""
        return sum(tensor.untyped_storage().nbytes() for tensor in (self.output, *self.gradients.values()))


def call(peer: Peer, warp: Warp, inputs: Inputs, mode: Mode) -> Outcome:
    """Runs once; ``inputs`` come from :meth:`Inputs.for_mode`."""
    with peer.within(), torch.set_grad_enabled(mode.gradients):
        output = warp(inputs)
        if not mode.gradients:
            return Outcome(output, {})
        tensors = inputs.named()
        gradients = torch.autograd.grad(output, [tensors[name] for name in inputs.names], inputs.grad_output)
        return Outcome(output.detach(), dict(zip(inputs.names, gradients, strict=True)))
