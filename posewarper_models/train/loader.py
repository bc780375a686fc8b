"""Batches in an order that depends on nothing but the seed, from any point on: what resuming a run needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class _Batches(Sampler[list[int]]):
    """Endless epochs of batches; iterating gives what is left of the current one."""

    def __init__(self, length: int, batch_size: int, seed: int, rank: int, ranks: int) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        self.delivered = 0  # batches, over all epochs

    def __len__(self) -> int:
        return self.length // (self.batch_size * self.ranks)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, done = divmod(self.delivered, len(self))
        order = np.random.default_rng((self.seed, epoch)).permutation(self.length) + epoch * self.length
        for batch in range(done, len(self)):
            start = (batch * self.ranks + self.rank) * self.batch_size
            yield order[start : start + self.batch_size].tolist()


class _Drawn(Dataset[dict[str, Any]]):
    """Samples by draw, ``epoch * len(dataset) + index``: all randomness is that of the seed and the draw."""

    def __init__(self, dataset: Dataset[dict[str, Any]], length: int, seed: int) -> None:
        self.dataset = dataset
        self.length = length
        self.seed = seed

    def __getitem__(self, draw: int) -> dict[str, Any]:
        seed = np.random.SeedSequence((self.seed, draw)).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed[0]))
            return self.dataset[draw % self.length]


class ResumableLoader(DataLoader[dict[str, Any]]):
    """Shuffled batches whose position Lightning saves and restores, in the middle of an epoch too.

    The last, smaller batch of an epoch is left out.

    Args:
        dataset: takes what randomness it has from PyTorch's generator, which is seeded anew for every sample: neither
            the number of workers nor an interruption changes anything.
        batch_size: of each process.
        seed: of the order.
        workers: processes that load; 0 for none but this one.
        rank, ranks: which of several training processes this is.

    Raises:
        ValueError: the data set is smaller than one batch of all processes.
    """

    def __init__(
        self,
        dataset: Dataset[dict[str, Any]],
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        length = len(dataset)  # type: ignore[arg-type]
        if length < batch_size * ranks:
            raise ValueError(
                f"batch_size: is {batch_size} on each of {ranks} devices, but there are only {length} labelled people"
            )
        self.batches = _Batches(length, batch_size, seed, rank, ranks)
        super().__init__(_Drawn(dataset, length, seed), batch_sampler=self.batches, num_workers=workers)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            self.batches.delivered += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """What Lightning keeps in a checkpoint."""
        return {"delivered": self.batches.delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on after the last batch that was delivered."""
        self.batches.delivered = state["delivered"]
