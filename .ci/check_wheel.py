"""Checks an installed wheel under the torch beside it, and prints what was found as one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

start = time.process_time()
import deformwarp  # noqa: E402

import_seconds = time.process_time() - start

from deformwarp import native  # noqa: E402

LONGEST_IMPORT = 0.15  # seconds, on top of torch


def results(backend: str) -> list[torch.Tensor]:
    """Output and gradients of a small problem."""
    torch.manual_seed(0)
    layer = deformwarp.FusedDeformWarp(4, dilations=(1, 2)).double()
    image = torch.rand(2, 4, 9, 7, dtype=torch.float64, requires_grad=True)
    offsets = [torch.randn(2, layer.offset_channels, 9, 7, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    with deformwarp.use_backend(backend):
        output = layer(image, offsets)
        return [output, *torch.autograd.grad(output.square().sum(), [image, *offsets, layer.weight])]


def main() -> None:
    """Raises where something is wrong."""
    package = Path(deformwarp.__file__).parent
    assert "site-packages" in package.parts or str(package).startswith(sys.argv[1]), package
    assert (package / "py.typed").is_file()
    for ours, expected in zip(results("cpu"), results("reference"), strict=True):
        torch.testing.assert_close(ours, expected)
    assert import_seconds < LONGEST_IMPORT, f"import takes {import_seconds:.3f} s on top of torch"
    found = {
        "torch": torch.__version__,
        "headers": native.TORCH_HEADERS,
        "cuda": native.CUDA_ARCHITECTURES,
        "isa": native.current_isa(),
        "import_ms": round(1e3 * import_seconds),
        "library_mib": round((Path(native._C.__file__).stat().st_size) / 2**20, 1),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
