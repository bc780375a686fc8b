"""The compiler's own figures of the CUDA kernels in the library: nothing spills."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deformwarp import native


def _cuobjdump() -> str | None:
    """From CUDA, or as Triton ships it."""
    triton = importlib.util.find_spec("triton")
    shipped = Path(triton.origin).parent / "backends/nvidia/bin/cuobjdump" if triton and triton.origin else None
    return shutil.which("cuobjdump") or (str(shipped) if shipped and shipped.exists() else None)


@pytest.mark.skipif(not native.CUDA_ARCHITECTURES, reason="this build has no CUDA kernels")
@pytest.mark.skipif(_cuobjdump() is None, reason="needs cuobjdump, of CUDA or Triton")
def test_no_kernel_spills() -> None:
    command = [str(_cuobjdump()), "--dump-resource-usage", native._C.__file__]
    printed = subprocess.run(command, text=True, capture_output=True, check=True).stdout
    found: dict[int, int] = {}
    too_much = []
    for part in re.split(r"^arch = ", printed, flags=re.MULTILINE)[1:]:
        architecture = int(re.match(r"sm_(\d+)", part)[1])  # type: ignore[index]
        for name, stack, local in re.findall(r"Function (\S+):\s*REG:\d+ STACK:(\d+) .*?LOCAL:(\d+)", part):
            found[architecture] = found.get(architecture, 0) + 1
            if int(stack) > 0 or int(local) > 0:
                too_much.append(f"sm_{architecture} {name}: stack {stack}, local {local}")
    built = {int(entry.split("-")[0]) for entry in native.CUDA_ARCHITECTURES.split() if not entry.endswith("virtual")}
    assert found.keys() == built
    assert len(set(found.values())) == 1, found
    assert not too_much
