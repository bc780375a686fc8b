"""One case on one device: agreement first, then time and memory."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from benchmarks.device import DEVICES, allocated
from benchmarks.memory import peak_of
from benchmarks.posewarper.cases import PRECISIONS, Case, make_run, values_of
from benchmarks.posewarper.networks import Network, peers
from benchmarks.timing import Plan, Run, interleaved, seconds_of
from posewarper_models.network import PoseWarper

PATIENCE = 300.0  # seconds for one figure of memory


def cpu_seconds_of(run: Run) -> float:
    """One call on the processor's clock: a busy machine's interruptions do not count."""
    start = time.process_time()
    run()
    return time.process_time() - start


@dataclass(frozen=True)
class Settings:
    """Where and how to measure."""

    device: str
    plan: Plan
    threads: int
    clock: str = "wall"

    def seconds_of(self, run: Run) -> float:
        """A whole step, launches included, as whoever waits for it sees it."""
        if self.clock == "cpu":
            return cpu_seconds_of(run)

        def finished() -> object:
            result = run()
            DEVICES[self.device].synchronize()
            return result

        return seconds_of(finished)


@contextmanager
def ieee_float32() -> Iterator[None]:
    """Convolutions of float32 in float32: TF32, which cuDNN takes otherwise, would blur the comparison."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _largest_difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Of the pairs' relative Frobenius norms; NaN where one is."""
    pairs = ((one.float(), other.float()) for one, other in zip(ours, theirs, strict=True))
    return float(torch.stack([(one - other).norm() / other.norm().clamp_min(1e-12) for one, other in pairs]).max())


def agreement(case: Case, both: Mapping[str, PoseWarper], precision: str) -> dict[str, Any]:
    """Both losses, and the largest relative differences; ``wrong`` where one is too large."""
    with ieee_float32():
        ours, theirs = (values_of(case, model, PRECISIONS[precision]) for model in both.values())
    found: dict[str, Any] = {
        "losses": dict(zip(both, (ours["loss"][0].item(), theirs["loss"][0].item()), strict=True)),
        "differences": {name: _largest_difference(values, theirs[name]) for name, values in ours.items()},
    }
    tolerance = PRECISIONS[precision].tolerance
    # Not "larger": NaN is neither.
    wrong = [f"{name} by {gap:.1e}" for name, gap in found["differences"].items() if not gap <= tolerance[name]]
    return found | ({"wrong": f"results differ: {', '.join(wrong)}"} if wrong else {})


def _child(connection: Connection, network: Network, peer: str, case: Case, precision: str, threads: int) -> None:
    torch.set_num_threads(threads)
    model = peers(network)[peer]
    run = make_run(case, model, PRECISIONS[precision])
    make_run(replace(case, batch=1), model, PRECISIONS[precision])()  # a warm-up
    connection.send(peak_of(run))


def _resident(network: Network, peer: str, case: Case, precision: str, threads: int) -> int:
    """Peak extra bytes of one call, in a fresh process: resident memory counts much that was freed before."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, network, peer, case, precision, threads))
    process.start()
    theirs.close()
    try:
        if not ours.poll(PATIENCE):
            raise TimeoutError(f"{case.name}, {peer}: no answer within {PATIENCE:.0f} s")
        return int(ours.recv())
    finally:
        process.kill()
        process.join()


def measure(
    case: Case, network: Network, both: Mapping[str, PoseWarper], precision: str, settings: Settings
) -> dict[str, Any]:
    """The case's figures; without times where results differ."""
    figures = {
        "name": case.name,
        "batch": case.batch,
        "training": case.training,
        "precision": precision,
        **agreement(case, both, precision),
    }
    if "wrong" in figures:
        return figures
    runs = {peer: make_run(case, model, PRECISIONS[precision]) for peer, model in both.items()}
    timings = interleaved(runs, settings.plan, settings.seconds_of)
    figures["seconds"] = {peer: asdict(timing) for peer, timing in timings.items()}
    figures["times_as_fast"] = timings["torchvision"].median / timings["deformwarp"].median
    figures["memory_bytes"] = {
        peer: _resident(network, peer, case, precision, settings.threads)
        if settings.device == "cpu"
        else allocated(run)[0]
        for peer, run in runs.items()
    }
    return figures
