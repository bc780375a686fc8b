"""A DataLoader whose workers warp: run by test_concurrency.py in a process of its own, which it may have to kill."""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import deformwarp

LENGTH = 8


class Warped(Dataset[Tensor]):
    """Item n is a warped image and the gradients of what went into it, all in one row."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, number: int) -> Tensor:
        random = torch.Generator().manual_seed(number)
        input, offset, weight = (
            torch.randn(shape, generator=random, requires_grad=True)
            for shape in [(2, 4, 9, 7), (2, 72, 9, 7), (1, 3, 4, 3, 3)]
        )
        output = deformwarp.fused_deform_warp(input, [offset], weight, dilations=[1])
        gradients = torch.autograd.grad(output.square().sum(), [input, offset, weight])
        return torch.cat([tensor.detach().flatten() for tensor in (output, *gradients)])


def main(method: str) -> None:
    torch.set_num_threads(2)
    dataset = Warped()
    expected = [dataset[number] for number in range(LENGTH)]  # with threads, before any worker is made
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=method, timeout=60)
    for number, (got, wanted) in enumerate(zip(loader, expected, strict=True)):
        assert torch.equal(got, wanted), number
    sys.stdout.write("same\n")


if __name__ == "__main__":
    main(sys.argv[1])
