"""The command line, called as its entry point is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from posewarper_models.cli import main


def posewarper(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The exit code of ``posewarper ARGUMENTS``."""
    monkeypatch.setattr(sys, "argv", ["posewarper", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)
