"""What a type checker tells users: right uses pass, mistakes are found."""

from __future__ import annotations

import importlib.resources
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("deformwarp", "posewarper_models")

pytest.importorskip("mypy")


def mypy(file: Path) -> str:
    """Its findings, with the options, and so the cache, of ``make lint``."""
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--no-pretty", str(file.relative_to(ROOT))]
    result = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False, timeout=600)
    assert result.stderr == ""
    return result.stdout


@pytest.mark.slow
def test_a_users_file_passes() -> None:
    assert mypy(ROOT / "tests/typing/right.py") == ""


@pytest.mark.slow
def test_mistakes_are_found() -> None:
    file = ROOT / "tests/typing/wrong.py"
    expected = {
        number: code
        for number, line in enumerate(file.read_text().splitlines(), 1)
        for code in re.findall(r"# ([a-z-]+)$", line)
    }
    found = re.findall(r":(\d+): error: .*\[([a-z-]+)\]$", mypy(file), re.MULTILINE)
    assert {int(number): code for number, code in found} == expected


@pytest.mark.parametrize("package", PACKAGES)
def test_installed_packages_say_that_they_are_typed(package: str) -> None:
    assert importlib.resources.files(package).joinpath("py.typed").is_file()
