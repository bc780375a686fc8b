"""The command line: ``deformwarp info`` and ``deformwarp bench``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from deformwarp import info
from deformwarp.functional import DILATIONS


def _shape(text: str) -> tuple[int, int, int, int]:
    if not re.fullmatch(r"\d+x\d+x\d+x\d+", text):
        raise argparse.ArgumentTypeError(f"is {text!r}, but should be NxCxHxW, as in 1x17x96x72")
    n, c, h, w = map(int, text.split("x"))
    return n, c, h, w


def _numbers(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"is {text!r}, but should be numbers with commas, as in 3,6,12")
    return tuple(map(int, text.split(",")))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deformwarp", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions, backends, instruction sets")
    run = commands.add_parser("bench", help="what fusing gains here, against torchvision's calls")
    run.add_argument("--shape", type=_shape, default=(1, 17, 96, 72), help="input NxCxHxW (default: 1x17x96x72)")
    run.add_argument("--out-channels", type=int, help="default: as many as the input's")
    run.add_argument("--kernel", type=int, default=3, help="odd (default: 3)")
    run.add_argument("--dilations", type=_numbers, default=DILATIONS, help="default: the paper's, 3,6,12,18,24")
    run.add_argument("--groups", type=int, default=1, help="of the weight (default: 1)")
    run.add_argument("--offset-groups", type=int, help="default: one for each channel; 1 in ordinary networks")
    run.add_argument("--masks", action="store_true", help="version 2")
    run.add_argument("--dtype", choices=["float64", "float32", "float16", "bfloat16"], default="float32")
    run.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: cpu)")
    run.add_argument("--threads", type=int, help="default: torch's")
    run.add_argument("--seconds", type=float, default=30.0, help="for all of it, about (default: 30)")
    run.add_argument("--out", type=Path, help="write a picture there: a PNG")
    return parser


def _bench(arguments: argparse.Namespace) -> None:
    # torch.utils.benchmark looks for CUDA's compiler, and complains where there is one without a GPU.
    from deformwarp import bench

    samples, channels, height, width = arguments.shape
    shape = bench.Shape(
        samples,
        channels,
        height,
        width,
        channels if arguments.out_channels is None else arguments.out_channels,
        arguments.kernel,
        arguments.dilations,
        arguments.groups,
        channels if arguments.offset_groups is None else arguments.offset_groups,
        arguments.masks,
        getattr(torch, arguments.dtype),
        arguments.device,
    )
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise ValueError(f"threads: is {arguments.threads}, but should be at least 1")
        torch.set_num_threads(arguments.threads)
    if arguments.out is not None and arguments.out.exists():
        raise ValueError(f"out: {arguments.out} exists, and is not overwritten")
    dilations = ", ".join(map(str, shape.dilations))
    title = (
        f"{'x'.join(map(str, arguments.shape))} to {shape.out_channels} channels, kernel {shape.kernel}, "
        f"dilations {dilations}, {arguments.dtype}, {arguments.device}, {torch.get_num_threads()} threads"
    )
    sys.stdout.write(f"{title}\nchecked against the formula in float64; about {arguments.seconds:g} s ...\n")
    sys.stdout.flush()
    lines = bench.measure(shape, arguments.seconds)
    sys.stdout.write(f"{bench.table(lines)}\n")
    if arguments.out is not None:
        bench.draw(lines, title, arguments.out)
        sys.stdout.write(f"written: {arguments.out}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point: what is wrong with the arguments is said in one line.

    Args:
        argv: the arguments; None for the command line's.

    Returns:
        The exit code: 0, or 2 where an argument is wrong.
    """
    arguments = _parser().parse_args(argv)
    if arguments.command == "info":
        info.main([])
        return 0
    try:
        _bench(arguments)
    except (ValueError, ImportError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
