"""``python -m benchmarks.cuda_figures``: writes benchmarks/results/cuda-figures.json and .md from the built library."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cuda_figures.library import cuobjdump
from benchmarks.cuda_figures.markdown import markdown
from benchmarks.cuda_figures.table import RESULTS, collect, save
from deformwarp import native


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the files, and gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda_figures", description=__doc__)
    parser.add_argument(
        "--library",
        type=Path,
        action="append",
        help="what has the kernels (default: the built library); repeated for the object files of one build",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="the JSON file; the Markdown goes beside it")
    arguments = parser.parse_args(argv)
    if cuobjdump() is None or not (arguments.library or native.CUDA_ARCHITECTURES):
        sys.stderr.write("cuda_figures: needs a build with CUDA kernels, and cuobjdump, of CUDA or Triton\n")
        return 1
    figures = collect(arguments.library or [Path(native._C.__file__)])
    save(figures, arguments.out)
    arguments.out.with_suffix(".md").write_text(markdown(figures), encoding="utf-8")
    sys.stdout.write(f"written: {arguments.out} and .md\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
