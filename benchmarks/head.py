"""``python -m benchmarks.head``: what ``WarpHead(memory="low")`` saves and costs, on PoseWarper's shape."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import machine
from benchmarks.memory import growth
from benchmarks.timing import Plan, interleaved
from deformwarp import WarpHead

MODES = ("normal", "low")
FEATURES, JOINTS, HEIGHT, WIDTH = 128, 17, 96, 72
TOLERANCE = 1e-5  # of relative Frobenius norms: both sum in float32, in another order


def make_head(memory: str, shift: float = 3.0) -> WarpHead:
    """A head whose offsets have a standard deviation of some pixels."""
    head = WarpHead(FEATURES, JOINTS, scale=1 / 5)
    for conv in head.offset_convs.parameters():
        nn.init.normal_(conv, std=shift / (9 * FEATURES) ** 0.5)
    head.memory = memory  # type: ignore[assignment]
    return head


def make_inputs(samples: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    """Random features and heatmap."""
    features = torch.randn(samples, FEATURES, height, width, requires_grad=True)
    return features, torch.rand(samples, JOINTS, height, width, requires_grad=True)


def step(head: WarpHead, features: Tensor, heatmap: Tensor) -> list[Tensor]:
    """Forward and backward: the output, and the gradients by inputs and parameters."""
    output = head(features, heatmap)
    wanted = (features, heatmap, *head.parameters())
    return [output.detach(), *torch.autograd.grad(output, wanted, torch.ones_like(output))]


def largest_difference(results: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Of relative Frobenius norms."""
    pairs = zip(results, expected, strict=True)
    return max(float((one.double() - other.double()).norm() / other.double().norm()) for one, other in pairs)


def _memory_here(memory: str, samples: int, threads: int) -> int:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    head, inputs = make_head(memory), make_inputs(samples)
    step(head, *make_inputs(1, 24, 18))
    peak, results = growth(partial(step, head, *inputs))
    return peak - sum(tensor.untyped_storage().nbytes() for tensor in results)


def _memory(memory: str, samples: int, threads: int) -> int:
    """In a fresh process, whose heap nothing has grown yet."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply_async(_memory_here, (memory, samples, threads)).get(timeout=300)


def measure(samples: int, threads: int, plan: Plan) -> dict[str, object]:
    """Times and memory of both modes, once their results agree.

    Raises:
        RuntimeError: they do not.
    """
    torch.manual_seed(0)
    head, inputs = make_head("normal"), make_inputs(samples)
    low = make_head("low")
    low.load_state_dict(head.state_dict())
    difference = largest_difference(step(low, *inputs), step(head, *inputs))
    if not difference <= TOLERANCE:
        raise RuntimeError(f"low memory differs by {difference:.1e}, allowed are {TOLERANCE:.0e}")
    timings = interleaved({"normal": partial(step, head, *inputs), "low": partial(step, low, *inputs)}, plan)
    memory = {mode: _memory(mode, samples, threads) for mode in MODES}
    return {
        "samples": samples,
        "difference": difference,
        "seconds": {mode: vars(timing) for mode, timing in timings.items()},
        "time_ratio": timings["low"].median / timings["normal"].median,
        "peak_bytes": memory,
        "memory_ratio": memory["low"] / memory["normal"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints a line for each batch size, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head", description=__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 4], help="batch sizes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring each mode")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    parser.add_argument("--force", action="store_true", help="replace the results that this machine has there")
    arguments = parser.parse_args(argv)
    where = machine.describe_machine()
    path = arguments.out / f"head-{machine.slug(where, arguments.threads)}.json"
    if path.exists() and not arguments.force:
        print(f"{path} exists: --force replaces it, --out names another folder")
        return 2
    torch.set_num_threads(arguments.threads)
    plan = Plan(arguments.seconds, 3, 60)
    results = {
        "machine": where,
        "versions": machine.describe_versions(),
        "commit": machine.describe_commit(),
        "threads": arguments.threads,
        "runs": [],
    }
    for samples in arguments.samples:
        run = measure(samples, arguments.threads, plan)
        results["runs"].append(run)  # type: ignore[attr-defined]
        normal, low = (run["seconds"][mode]["median"] * 1e3 for mode in MODES)  # type: ignore[index]
        print(f"N = {samples}: {normal:.0f} ms, low {low:.0f} ms: {run['time_ratio']:.2f} of the time")
        normal, low = (run["peak_bytes"][mode] / 2**20 for mode in MODES)  # type: ignore[index]
        print(f"       {normal:.0f} MiB, low {low:.0f} MiB: {run['memory_ratio']:.2f} of the memory")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
