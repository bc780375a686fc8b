"""``python -m benchmarks.posewarper``: the warping part of the demo's model, with the fused layer and with five calls.

Both have the same weights; their results are compared first, and a time is reported only where they agree.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from benchmarks.machine import describe_commit, describe_machine, describe_versions, slug
from benchmarks.memory import peak_of
from benchmarks.timing import Plan, Run, interleaved, seconds_of
from deformwarp import FusedDeformWarp
from posewarper_models.checkpoints import DEMO, load_checkpoint
from posewarper_models.network import PoseWarper
from posewarper_models.train.modules import heatmap_loss

RESULTS = Path(__file__).parent / "results"
TOLERANCE = 1e-4  # relative Frobenius norm of differences: both compute in float32
PATIENCE = 300.0  # seconds for one figure of memory


def cpu_seconds_of(run: Run) -> float:
    """One call on the processor's clock: a busy machine's interruptions do not count."""
    start = time.process_time()
    run()
    return time.process_time() - start


CLOCKS = {"wall": seconds_of, "cpu": cpu_seconds_of}


class FiveCalls(nn.Module):
    """What :class:`FusedDeformWarp` replaces: torchvision's calls, their sum, and the scale."""

    def __init__(self, fused: FusedDeformWarp) -> None:
        super().__init__()
        self.weight = nn.Parameter(fused.weight.detach().clone())  # [D, C, C, 3, 3]
        self.dilations, self.scale, self.channels = fused.dilations, fused.scale, fused.channels

    def forward(self, heatmap: Tensor, offsets: Sequence[Tensor]) -> Tensor:
        calls = zip(self.weight, offsets, self.dilations, strict=True)
        branches = (deform_conv2d(heatmap, offset, weight, padding=d, dilation=d) for weight, offset, d in calls)
        return sum(branches, start=torch.zeros(())) * self.scale


@dataclass(frozen=True)
class Case:
    """One thing people do with the warping part."""

    name: str
    batch: int
    training: bool


CASES = (
    Case("inference, one pair of crops", 1, False),
    Case("inference, 16 pairs", 16, False),
    Case("training step, 16 pairs", 16, True),
)


def models(path: Path = DEMO) -> dict[str, PoseWarper]:
    """The trained model, and the same with five calls."""
    fused, _ = load_checkpoint(path)
    five = copy.deepcopy(fused)
    five.warping.warp = FiveCalls(fused.warping.warp)  # type: ignore[assignment]
    return {"deformwarp": fused, "torchvision": five}


def make_inputs(model: PoseWarper, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Heatmaps of frames A and B, and the target, [N, J, h, w] each: random, between 0 and 1."""
    shape = (batch, model.architecture["num_joints"], *(side // 4 for side in model.image_size))
    f_a, f_b, target = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    return f_a, f_b, target


def make_run(model: PoseWarper, case: Case) -> Callable[[], Tensor]:
    """One inference, or one step of stage 2 from the frozen backbone's heatmaps on, Adam included."""
    f_a, f_b, target = make_inputs(model, case.batch)
    model = copy.deepcopy(model)
    if not case.training:

        @torch.inference_mode()
        def infer() -> Tensor:
            return model.warped(f_a, f_b)

        return infer
    model.warping.train()
    optimizer = torch.optim.Adam(model.warping.parameters(), 1e-4)
    weight = torch.ones(case.batch, model.architecture["num_joints"], 1, 1)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = heatmap_loss(model.warped(f_a, f_b), target, weight)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def difference(case: Case, both: dict[str, PoseWarper]) -> float:
    """The largest relative difference of the output and of the gradients of all weights."""
    values = [_values(model, case) for model in both.values()]
    return max(
        ((one - other).norm() / other.norm().clamp_min(1e-12)).item() for one, other in zip(*values, strict=True)
    )


def _values(model: PoseWarper, case: Case) -> list[Tensor]:
    f_a, f_b, target = make_inputs(model, case.batch)
    model = copy.deepcopy(model)
    model.warping.train(case.training)
    output = model.warped(f_a, f_b)
    if not case.training:
        return [output.detach()]
    heatmap_loss(output, target, torch.ones(case.batch, model.architecture["num_joints"], 1, 1)).backward()
    gradients = dict(model.warping.named_parameters())
    return [output.detach(), *(gradients[name].grad for name in sorted(gradients))]  # type: ignore[list-item]


def _child(connection: Connection, path: Path, peer: str, case: Case, threads: int) -> None:
    torch.set_num_threads(threads)
    run = make_run(models(path)[peer], case)
    make_run(models(path)[peer], Case("warm-up", 1, case.training))()
    connection.send(peak_of(run))


def memory(path: Path, peer: str, case: Case, threads: int) -> int:
    """Peak extra bytes of one call, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, path, peer, case, threads))
    process.start()
    theirs.close()
    try:
        if not ours.poll(PATIENCE):
            raise TimeoutError(f"{case.name}, {peer}: no answer within {PATIENCE:.0f} s")
        return int(ours.recv())
    finally:
        process.kill()
        process.join()


def measure(case: Case, path: Path, plan: Plan, threads: int, clock: str = "wall") -> dict[str, Any]:
    """The case's figures; without times where results differ."""
    both = models(path)
    gap = difference(case, both)
    figures: dict[str, Any] = {**asdict(case), "difference": gap}
    if gap > TOLERANCE:
        return {**figures, "wrong": f"results differ by {gap:.1e}"}
    timings = interleaved({peer: make_run(model, case) for peer, model in both.items()}, plan, CLOCKS[clock])
    figures["seconds"] = {peer: asdict(timing) for peer, timing in timings.items()}
    figures["times_as_fast"] = timings["torchvision"].median / timings["deformwarp"].median
    figures["memory_bytes"] = {peer: memory(path, peer, case, threads) for peer in both}
    return figures


def line(figures: dict[str, Any]) -> str:
    """One case, to be read."""
    if "wrong" in figures:
        return f"{figures['name']}: no time: {figures['wrong']}"
    ours, theirs = (1e3 * figures["seconds"][peer]["median"] for peer in ("deformwarp", "torchvision"))
    held = [figures["memory_bytes"][peer] / 2**20 for peer in ("deformwarp", "torchvision")]
    return (
        f"{figures['name']}: {ours:.1f} ms, torchvision {theirs:.1f} ms, {figures['times_as_fast']:.2f} times as fast; "
        f"extra memory {held[0]:.1f} MiB, torchvision {held[1]:.1f} MiB; results differ by {figures['difference']:.1e}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures all cases; 1 where results differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.posewarper", description=__doc__)
    parser.add_argument("--model", type=Path, default=DEMO, help="checkpoint (default: the demo's)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="aimed at, for each peer and case")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: for one thread on a busy machine")
    parser.add_argument("--out", type=Path, help="JSON file (default: by machine, in benchmarks/results)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    machine = describe_machine()
    out = options.out or RESULTS / f"posewarper-{slug(machine, options.threads)}.json"
    cases = []
    for case in CASES:
        cases.append(measure(case, options.model, Plan(options.seconds, 5, 60), options.threads, options.clock))
        sys.stdout.write(line(cases[-1]) + "\n")
    content = {
        "machine": machine,
        "versions": describe_versions(),
        "commit": describe_commit(),
        "threads": options.threads,
        "clock": options.clock,
        "load_average": os.getloadavg(),
        "cases": cases,
    }
    out.write_text(json.dumps(content, indent=1), encoding="utf-8")
    sys.stdout.write(f"written to {out}\n")
    return int(any("wrong" in case for case in cases))


if __name__ == "__main__":
    sys.exit(main())
