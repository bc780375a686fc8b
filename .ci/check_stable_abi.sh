#!/usr/bin/env bash
# One binary serves every torch from the oldest on: it compiles against the headers of the oldest, and what comes out
# works under the torch of the virtual environment, which is the newest.
#
#   VENV         the virtual environment (.venv)
#   OLDEST_TORCH a folder that holds the oldest torch's package; else it is downloaded into the build folder
set -euo pipefail
cd "$(dirname "$0")/.."
oldest=2.11.0
python=$(cd "${VENV:-.venv}/bin" && pwd)/python
work=$PWD/build/stable_abi
site=${OLDEST_TORCH:-$work/torch-$oldest}
mkdir -p "$work"

if [[ ! -d $site/torch ]]; then
  "$python" -m pip install --quiet --no-deps --target "$site" "torch==$oldest"
fi

# CUDA kernels do not see torch: one architecture is enough to link them.
echo "compiling against torch $oldest"
PATH=$(dirname "$python"):$PATH
cmake -S . -B "$work/build" -G Ninja -Wno-dev --log-level=WARNING -DCMAKE_INSTALL_PREFIX="$work/install" \
  -DDEFORMWARP_TORCH_DIR="$site/torch" -DDEFORMWARP_CUDA_ARCHITECTURES=90-real \
  -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" -DPython_EXECUTABLE="$python"
cmake --build "$work/build"
cmake --install "$work/build" > /dev/null

# A copy of the tree, so that the installed library stays as it is.
tree=$work/tree
rm -rf "$tree"
mkdir -p "$tree"
cp -r deformwarp tests pyproject.toml "$tree"
rm -f "$tree"/deformwarp/_C*.so
cp "$work"/install/deformwarp/_C*.so "$tree/deformwarp/"

cd "$tree"
"$python" - "$tree" "$oldest" <<'PYTHON'
import sys

import torch

import deformwarp
from deformwarp import native

tree, oldest = sys.argv[1:]
assert deformwarp.__file__.startswith(tree), deformwarp.__file__
assert native.TORCH_HEADERS.startswith(oldest), native.TORCH_HEADERS
torch.manual_seed(0)
layer = deformwarp.FusedDeformWarp(4, dilations=(1, 2)).double()
image = torch.rand(2, 4, 9, 7, dtype=torch.float64, requires_grad=True)
offsets = [torch.randn(2, layer.offset_channels, 9, 7, dtype=torch.float64, requires_grad=True) for _ in range(2)]
results = {}
for backend in ("cpu", "reference"):
    with deformwarp.use_backend(backend):
        output = layer(image, offsets)
        results[backend] = [output, *torch.autograd.grad(output.square().sum(), [image, *offsets, layer.weight])]
for ours, expected in zip(*results.values(), strict=True):
    torch.testing.assert_close(ours, expected)
print(f"compiled for torch {native.TORCH_HEADERS}, runs under torch {torch.__version__}")
PYTHON
# The backends of this library that need no GPU: emulated kernels are compiled from the sources, not into it.
"$python" -m pytest -q -m "not slow" -k "not reference and not cuda and not triton" tests/test_borders.py tests/test_torchvision.py
