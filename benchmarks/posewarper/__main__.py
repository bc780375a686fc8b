"""``python -m benchmarks.posewarper``: PoseWarper with the fused layer, and with torchvision's five calls.

On the CPU it is the warping part of the demo's model; on a GPU the paper's network, HRNet-W48 at 384x288 with random
weights: a step of stage 2 and an inference from five frames. Both have the same weights; their results are compared
first, and a time is reported only where they agree.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.device import DEVICES, file_name
from benchmarks.machine import describe_commit, describe_versions
from benchmarks.posewarper.cases import BENCHMARKS, PRECISIONS
from benchmarks.posewarper.measuring import Settings, measure
from benchmarks.posewarper.networks import Trained, peers
from benchmarks.timing import Plan

RESULTS = Path(__file__).parents[1] / "results"
FEWEST, MOST = 7, 60  # turns of each peer
# torchvision's calls have no kernel for bfloat16 on the CPU.
DEFAULTS = {"cpu": ("demo", ("float32",)), "cuda": ("paper", tuple(PRECISIONS))}
HEADER = (
    "| | precision | fused, ms | five calls, ms | times as fast | memory, MiB | with five calls |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
)


def row(figures: dict[str, Any]) -> str:
    """One case, as a row of a table."""
    begin = f"| {figures['name']} | {figures['precision']} |"
    if "wrong" in figures:
        return f"{begin} no time: {figures['wrong']} | | | | |"
    ours, theirs = (1e3 * figures["seconds"][peer]["median"] for peer in ("deformwarp", "torchvision"))
    held = [figures["memory_bytes"][peer] / 2**20 for peer in ("deformwarp", "torchvision")]
    return f"{begin} {ours:.3g} | {theirs:.3g} | {figures['times_as_fast']:.2f} | {held[0]:.4g} | {held[1]:.4g} |"


def _save(content: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.posewarper", description=__doc__)
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--benchmark", choices=BENCHMARKS, help="whose network and cases (default: by device)")
    parser.add_argument("--model", type=Path, help="a checkpoint of posewarper's, in place of the benchmark's network")
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="only this one (default: by device)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="aimed at, for each peer and case")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: one thread on a busy machine")
    parser.add_argument("--out", type=Path, help="JSON file (default: by machine, in benchmarks/results)")
    options = parser.parse_args(argv)
    if options.clock == "cpu" and options.device != "cpu":
        parser.error("--clock cpu: the processor's clock says nothing about another device")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measures all cases, keeping what there is after each; 1 where results differ, 2 where there is no such device."""
    options = _arguments(argv)
    device = DEVICES[options.device]
    reason = device.why_not_here()
    if reason is not None:
        sys.stderr.write(f"--device {device.name}: {reason}\n")
        return 2
    torch.set_num_threads(options.threads)
    name, precisions = DEFAULTS[device.name]
    name, precisions = options.benchmark or name, options.precision or precisions
    machine = device.describe()
    out = options.out or RESULTS / f"posewarper-{file_name(machine, options.threads)}.json"
    content: dict[str, Any] = {
        "machine": machine,
        "versions": describe_versions(),
        "commit": describe_commit(),
        "benchmark": name,
        "model": options.model and str(options.model.name),
        "device": device.name,
        "threads": options.threads,
        "clock": options.clock,
        "load_average": os.getloadavg(),
        "complete": False,
        "cases": [],
    }
    network, cases = Trained(options.model) if options.model else BENCHMARKS[name].network, BENCHMARKS[name].cases
    both = {peer: model.to(device.name) for peer, model in peers(network).items()}
    settings = Settings(device.name, Plan(options.seconds, FEWEST, MOST), options.threads, options.clock)
    sys.stdout.write(f"{HEADER}\n")
    for case in cases:
        for precision in precisions:
            content["cases"].append(measure(case, network, both, precision, settings))
            _save(content, out)
            sys.stdout.write(f"{row(content['cases'][-1])}\n")
            sys.stdout.flush()
    _save(content | {"complete": True}, out)
    sys.stdout.write(f"written to {out}\n")
    return int(any("wrong" in figures for figures in content["cases"]))


if __name__ == "__main__":
    sys.exit(main())
