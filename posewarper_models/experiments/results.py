"""Results on disk: one JSON file for each experiment, configuration and seed, with where it came from."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("deformwarp", "torch", "torchvision", "timm", "lightning", "opencv-python-headless", "numpy")
FIELDS = ("experiment", "configuration", "seed", "videos", "settings", "provenance", "measured")


class ResultError(ValueError):
    """A results file that cannot be used or would be overwritten. The message names it."""


@dataclass(frozen=True)
class Result:
    """One run of one experiment."""

    experiment: str
    configuration: str
    seed: int
    videos: str  # what it was measured on
    settings: dict[str, Any]  # what of the study it depends on, as plain data
    provenance: dict[str, Any]
    measured: dict[str, Any]  # the experiment's own


def provenance(seconds: float) -> dict[str, Any]:
    """Versions, commit, machine and time of what is running now.

    Args:
        seconds: of the measurement, the training that it needed included where that was not there before.
    """
    return {
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "machine": {
            "cpu": _cpu(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "os": platform.platform(),
        },
        "seconds": round(seconds, 1),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def path_of(folder: Path, experiment: str, configuration: str, seed: int) -> Path:
    """Where a result is kept."""
    return folder / configuration / f"{experiment}-seed{seed}.json"


def save(result: Result, folder: Path) -> Path:
    """Writes a result; there is never half a file.

    Raises:
        ResultError: there is one already.
    """
    path = path_of(folder, result.experiment, result.configuration, result.seed)
    if path.exists():
        raise ResultError(f"{path}: exists; remove it first to measure again")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(asdict(result), separators=(",", ":"), allow_nan=False) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
    return path


def load(path: Path) -> Result:
    """Reads a result.

    Raises:
        ResultError: the file cannot be read or lacks a field.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: cannot be read as JSON: {error}") from error
    lacking = [name for name in FIELDS if not isinstance(data, dict) or name not in data]
    if lacking:
        raise ResultError(f"{path}: {lacking[0]}: is missing")
    return Result(**{name: data[name] for name in FIELDS})


def require_videos(path: Path, videos: str) -> None:
    """Raises :class:`ResultError` where a result was measured on others."""
    found = load(path).videos
    if found != videos:
        raise ResultError(f"{path}: is a result on {found}, not on {videos}; name another folder of results")


def results_of(folder: Path, experiment: str, configuration: str) -> list[Result]:
    """All seeds of an experiment in one configuration, by seed.

    Raises:
        ResultError: one cannot be read, or they were made with different settings or on different videos.
    """
    found = [load(path) for path in (folder / configuration).glob(f"{experiment}-seed*.json")]
    for result in found[1:]:
        if (result.settings, result.videos) != (found[0].settings, found[0].videos):
            raise ResultError(
                f"{folder / configuration}: {experiment}: seeds {found[0].seed} and {result.seed} were made with "
                "different settings; measure one of them again"
            )
    return sorted(found, key=lambda result: result.seed)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Of the repository that this file is in; "+" where it has uncommitted changes."""
    git = ("git", "-C", str(Path(__file__).parent))
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "")


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
