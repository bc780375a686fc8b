"""What ``import deformwarp`` costs on top of torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import deformwarp

LONGEST = 0.15  # seconds of processor time; a busy machine makes no difference to it
ATTEMPTS = 3  # but a cold disk does

CODE = """
import json, sys, time
import torch
before, start = set(sys.modules), time.process_time()
import deformwarp
print(json.dumps([time.process_time() - start, sorted(set(sys.modules) - before)]))
"""


def imported() -> tuple[float, list[str]]:
    done = subprocess.run([sys.executable, "-c", CODE], text=True, capture_output=True, check=True, timeout=300)
    seconds, modules = json.loads(done.stdout)
    return seconds, modules


def test_importing_takes_at_most_150_ms_and_brings_nothing_but_the_package() -> None:
    for _ in range(ATTEMPTS):
        seconds, modules = imported()
        # What torch has not imported, users should not wait for: command lines, pictures, torchvision, Triton.
        assert {name.partition(".")[0] for name in modules} == {"deformwarp"}
        assert not {"deformwarp.bench", "deformwarp.cli", "deformwarp.info", "deformwarp.onnx"} & set(modules)
        if seconds <= LONGEST:
            return
    raise AssertionError(f"import deformwarp takes {seconds:.3f} s of processor time on top of torch")


# Of a fresh interpreter: another test may have imported the module.
ON_DEMAND = """
import sys
import deformwarp
assert "deformwarp.{module}" not in sys.modules
print(deformwarp.{module}.{function}.__module__)
"""


@pytest.mark.parametrize("path", ["onnx.export", "aoti.compile_and_package"])
def test_what_the_documents_name_is_there_after_importing_the_package(path: str) -> None:
    module, function = path.split(".")
    code = ON_DEMAND.format(module=module, function=function)
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False, timeout=300)
    assert done.stdout.strip() == f"deformwarp.{module}", done.stderr


def test_a_name_that_the_package_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'deformwarp' has no attribute 'fused_warp'"):
        deformwarp.fused_warp  # type: ignore[attr-defined]  # noqa: B018
