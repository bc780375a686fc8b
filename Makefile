# The two commands of the README are demo and test; the rest is for development.

PYTHON ?= python3
VENV ?= .venv
OUT ?= demo_output
SECONDS_TO_FUZZ ?= 600
# What to install as PyTorch, for example TORCH="torch==2.13.0 torchvision".
TORCH ?= torch torchvision

bin := $(VENV)/bin
native := setup.py CMakeLists.txt $(shell find csrc -type f)
kernels := $(shell find csrc tests/cuda_emulation -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.DEFAULT_GOAL := help
.PHONY: help demo test lint format build bench docs fuzz gpu-check clean distclean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Stamps: an interrupted installation leaves none, and starts again.
$(VENV)/.requirements: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("$(PYTHON) is older than 3.10: name a newer one, as in make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(bin)/python -m pip install --upgrade pip
	$(bin)/python -m pip install $(TORCH) 'setuptools>=77' 'pybind11>=2.13' 'cmake>=3.22' ninja
	@touch $@

$(VENV)/.package: $(VENV)/.requirements $(native)
	$(bin)/python -m pip install --no-build-isolation --editable '.[all]'
	@touch $@

demo: $(VENV)/.package  ## Make a virtual environment, install everything, run the demonstration
	$(bin)/python -m benchmarks.demo --out $(OUT)
	@echo "The pictures are in $(abspath $(OUT))"

test: lint  ## The same, and run all checks and tests
	$(bin)/python -m pytest

lint: $(VENV)/.package  ## ruff, mypy, clang-format: check only
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/clang-format --dry-run --Werror $(kernels)

format: $(VENV)/.package  ## Rewrite the sources in the project's style
	$(bin)/ruff check --fix .
	$(bin)/ruff format .
	$(bin)/clang-format -i $(kernels)

build: $(VENV)/.requirements  ## Compile what has changed since the last build
	$(bin)/python setup.py build_ext --inplace
	@test ! -e $(VENV)/.package || touch $(VENV)/.package

bench: $(VENV)/.package  ## Run the benchmark
	$(bin)/python -m benchmarks.run

# No virtual environment and no network: $(PYTHON) has what it needs.
gpu-check: OUT = gpu_check_output
gpu-check:  ## On a machine with a GPU: build, test, sanitize, measure and profile into OUT, within ten minutes
	$(PYTHON) -m benchmarks.gpu_check --out $(OUT)

docs: $(VENV)/.package  ## The documentation site, into build/docs
	$(bin)/python -m sphinx --fail-on-warning docs build/docs
	@echo "Open $(abspath build/docs/index.html)"

fuzz: $(VENV)/.package  ## Random problems under sanitizers: make fuzz SECONDS_TO_FUZZ=3600
	cd tests && ../$(bin)/python -m fuzz --sanitize --seconds $(SECONDS_TO_FUZZ) --first $$(date +%s)

clean:  ## Remove what was built; keep the virtual environment
	rm -rf build dist *.egg-info deformwarp/_C*.so $(VENV)/.package $(OUT)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

distclean: clean  ## Remove the virtual environment too
	rm -rf $(VENV)
