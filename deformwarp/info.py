"""``python -m deformwarp.info``: versions, backends and why one is not available, instruction sets and threads."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence

import torch

import deformwarp
from deformwarp import native
from deformwarp.backends import BACKENDS


def report() -> dict[str, str]:
    """What this installation is and can do, as label and text.

    >>> report()["backend reference"]
    'available on any device'
    """
    lines = {
        "deformwarp": deformwarp.__version__,
        "python": f"{platform.python_version()} on {platform.machine()}",
        "torch": torch.__version__,
        "built with": f"{native.COMPILER}, headers of torch {native.TORCH_HEADERS}, for torch >= {native.TORCH_TARGET}",
        "CUDA architectures": native.CUDA_ARCHITECTURES or "none in this build",
    }
    for backend in BACKENDS.values():
        reason = backend.why_not_here()
        lines[f"backend {backend.name}"] = (
            f"available on {backend.device}" if reason is None else f"not available: {reason}"
        )
    lines["CPU instruction set"] = f"{native.current_isa()} (available: {', '.join(native.available_isas())})"
    lines["threads"] = str(torch.get_num_threads())
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the report; 1 if a backend that is asked for is not available."""
    parser = argparse.ArgumentParser(prog="python -m deformwarp.info", description=__doc__)
    parser.add_argument("--require", choices=BACKENDS, help="exit with 1 if this backend is not available")
    required = parser.parse_args(argv).require
    lines = report()
    width = max(map(len, lines)) + 2
    for label, text in lines.items():
        sys.stdout.write(f"{label + ':':<{width}}{text}\n")
    return int(required is not None and BACKENDS[required].why_not_here() is not None)


if __name__ == "__main__":
    sys.exit(main())
