"""Batches in an order that depends on nothing but the seed, from any point on: what resuming a run needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

# A worker that gives no batch for so long hangs: better an error than a run that waits for ever.
PATIENCE = 600.0  # seconds


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


class Seeded(Dataset[dict[str, Any]]):
    """Samples by draw, ``epoch * len(dataset) + index``: all randomness is that of the seed and the draw.

    Args:
        dataset: takes what randomness it has from PyTorch's generator.
        seed: of all draws.
    """

    def __init__(self, dataset: Dataset[dict[str, Any]], seed: int) -> None:
        self.dataset = dataset
        self.length = len(dataset)  # type: ignore[arg-type]
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: int) -> dict[str, Any]:
        seed = np.random.SeedSequence((self.seed, draw)).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed[0]))
            return self.dataset[draw % self.length]


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(1)


def worker_settings(workers: int) -> dict[str, Any]:
    """Arguments of PyTorch's loader for so many worker processes.

    Workers start fresh: a process that is forked once OpenCV or PyTorch has threads waits for threads that it does not
    have. They stay from epoch to epoch, as starting one takes seconds.
    """
    if workers == 0:
        return {"num_workers": 0}
    return {
        "num_workers": workers,
        "multiprocessing_context": "spawn",
        "persistent_workers": True,
        "timeout": PATIENCE,
        "worker_init_fn": _one_thread,
    }


class ResumableLoader(DataLoader[dict[str, Any]]):
    """Shuffled batches whose position Lightning saves and restores, in the middle of an epoch too.

    The last, smaller batch of an epoch is left out.

    Args:
        dataset: takes what randomness it has from PyTorch's generator, which is seeded anew for every sample: neither
            the number of workers nor an interruption changes anything.
        batch_size: of each process.
        seed: of the order.
        workers: processes that load; 0 for none but this one. The data set must be picklable then.
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
        samples = Seeded(dataset, seed)
        if len(samples) < batch_size * ranks:
            raise ValueError(
                f"batch_size: is {batch_size} on each of {ranks} devices, "
                f"but there are only {len(samples)} labelled people"
            )
        self.batches = _Batches(len(samples), batch_size, seed, rank, ranks)
        super().__init__(samples, batch_sampler=self.batches, **worker_settings(workers))

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
