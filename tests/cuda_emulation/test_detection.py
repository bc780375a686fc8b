"""The emulator can fail: correct kernels pass, and with one thing wrong in them they are caught, for every seed."""

from __future__ import annotations

import numpy as np
import pytest
from emulator import compiler
from toys import Toy, reads, updates, writes

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs g++")
SEEDS = range(5)


def transpose(toy: Toy, seed: int) -> None:
    matrix = np.random.default_rng(seed).random((70, 45), np.float32)
    result = np.empty((45, 70), np.float32)
    toy.run(matrix.shape, [reads(matrix), writes(result)], seed)
    assert np.array_equal(result, matrix.T)


def reduction(toy: Toy, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-100, 100, 1000).astype(np.float32)
    blocks = 5
    partial, finished, total = np.empty(blocks, np.float32), np.zeros(1, np.uint32), np.empty(1, np.float32)
    for _ in range(2):  # the counter is ready for the next launch
        toy.run([values.size, blocks], [reads(values), writes(partial), updates(finished), writes(total)], seed)
        assert total[0] == values.sum()


def histogram(toy: Toy, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 64, 2000, np.int32)
    counts = np.arange(64, dtype=np.int32)
    toy.run([values.size], [reads(values), updates(counts)], seed)
    assert np.array_equal(counts, np.bincount(values, minlength=64) + np.arange(64))


def product(toy: Toy, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, columns, inner = 64, 24, 80
    a, b = (random.integers(-8, 8, (n, inner)).astype(np.float16) for n in (rows, columns))
    result = np.empty((rows, columns), np.float32)
    toy.run([rows, columns, inner], [reads(a), reads(b), writes(result)], seed)
    assert np.array_equal(result, a.astype(np.float32) @ b.astype(np.float32).T)


CORRECT = {run.__name__: run for run in (transpose, reduction, histogram, product)}

# What is wrong, by toy: where the text changes, and what the emulator says.
WRONG = {
    "transpose": {
        "no barrier": ("  block_barrier();\n", "", "without a barrier between|was never written"),
        "misaligned": ("pitch = 33 * 4", "pitch = 33 * 4 + 2", "misaligned"),
        "too little shared memory": ("32 * pitch, nullptr", "31 * pitch, nullptr", "outside the 4092 bytes"),
        "index beyond the end": (
            "(column + i) * p.rows",
            "(column + i + 1) * p.rows",
            "behind the nearest buffer's end",
        ),
        "index before the beginning": ("p.in + (row + i)", "p.in + (row + i - 40)", "before the nearest buffer are"),
        "output read": ("global_load(p.in +", "global_load(p.out +", "was never written"),
        "input written": ("global_store(p.out +", "global_store(const_cast<float*>(p.in) +", "read-only, is written"),
        "two threads, one element": ("(column + i) * p.rows", "(column + i / 2) * p.rows", "race: .* of a buffer"),
        "address without base": ("tile = shared_base()", "tile = 0", "outside"),
        "tile shared by rows": ("tile + i * pitch +", "tile + i / 2 * pitch +", "race: .* shared"),
        "barrier in a branch": (
            "  block_barrier();",
            "  if (threadIdx.y < 4) block_barrier();",
            "without a barrier|never written|returned",
        ),
    },
    "reduction": {
        "first barrier missing": ("value);\n  block_barrier();\n", "value);\n", "without a barrier|never written"),
        "second barrier missing": ("  }\n  block_barrier();\n", "  }\n", "without a barrier|never written"),
        "shuffle in a branch": ("  value = warp_sum(value);", "  if (lane < 16) value = warp_sum(value);", "deadlock"),
        "shuffle of the early returned": (
            "  value = warp_sum(value);",
            "  if (lane > 15) return;\n  value = warp_sum(value);",
            "retur",
        ),
        "unpublished": ("value);\n      memory_fence();", "value);", "did not fence and publish"),
        "not acquired": ("- 1;\n      memory_fence();", "- 1;", "without an atomic and a memory_fence"),
        "read-only path": ("global_load_coherent", "global_load", "read through the read-only path"),
        "counter without atomics": (
            "global_fetch_add(p.finished, 1) ==",
            "(global_store(p.finished, global_load_coherent(p.finished) + 1), global_load_coherent(p.finished)) ==",
            "race: .* another block",
        ),
        "partial sums of one place": (
            "p.partial + blockIdx.x, value",
            "p.partial, value",
            "race: .* another block|was never written",
        ),
    },
    "histogram": {
        "counts undefined": ("shared_store(counts + bin * 4, 0)", "", "was never written"),
        "first barrier missing": ("16);\n  block_barrier();\n", "16);\n", "without a barrier|never written"),
        "second barrier missing": ("  }\n  block_barrier();\n", "  }\n", "without a barrier"),
        "no shared atomic": (
            "shared_add(counts + global_load(p.in + i) * 4, 1)",
            "const uint32_t at = counts + global_load(p.in + i) * 4;\n    shared_store(at, shared_load<int>(at) + 1)",
            "race: .* shared",
        ),
        "no global atomic": (
            "global_add(p.counts + bin, shared",
            "global_store(p.counts + bin, global_load_coherent(p.counts + bin) + shared",
            "race: .* another block",
        ),
        "guard touched": (
            "bin < bins; bin += blockDim.x) shared_store",
            "bin < bins + 1; bin += blockDim.x) shared_store",
            "guard",
        ),
    },
    "product": {
        "no wait": ("    copy_async_wait<1>();\n", "", "in flight"),
        "waits for too few": ("copy_async_wait<1>", "copy_async_wait<2>", "in flight"),
        "no commit": ("  copy_async_commit();\n", "", "in flight"),
        "first warp barrier missing": ("<1>();\n    warp_barrier();", "<1>();", "race|in flight|never written"),
        "second warp barrier missing": (
            "mma_f16(d, a, b);\n    warp_barrier();",
            "mma_f16(d, a, b);",
            "race|in flight",
        ),
        "copy beyond the end": (
            ",\n                 column < p.inner",
            "",
            "behind the nearest buffer's end|beyond its end",
        ),
        "copy misaligned": ("column + part * 8,", "column + part * 8 + 1,", "misaligned"),
        "diverging product": ("    mma_f16(d, a, b);", "    if (lane_number() != 5) mma_f16(d, a, b);", "diverge"),
        "local index too large": ("d[2 * i + 1])", "d[2 * i + 2])", "an index is outside its array"),
    },
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CORRECT)
def test_a_correct_kernel_passes(name: str, seed: int) -> None:
    CORRECT[name](Toy(name), seed)


@pytest.mark.parametrize(
    ("name", "error"), [pytest.param(name, error, id=f"{name}-{error}") for name in WRONG for error in WRONG[name]]
)
def test_a_wrong_kernel_is_caught_for_every_seed(name: str, error: str) -> None:
    before, after, message = WRONG[name][error]
    toy = Toy(name, (before, after))
    for seed in SEEDS:
        with pytest.raises(RuntimeError, match=message):
            CORRECT[name](toy, seed)
