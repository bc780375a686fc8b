"""Settings that were measured on the user's GPU, beside those that ``plan.py`` computes. Nothing is measured unasked.

What ``deformwarp.tune`` finds is kept in ``deformwarp/triton.json`` in the user's cache folder (``$XDG_CACHE_HOME``,
else ``~/.cache``)::

    {"format": 1, "tiles": {"NVIDIA H200; triton 3.6.0; float16; 5 branches; 16, 17, 96, ...":
        {"forward": {"pixels": 64, "warps": 4}, "backward": {"pixels": 32, "warps": 4}}}}

The numbers at the end of a key are those of ``arguments.Shape``. A tile changes no output's and no offset gradient's
bits, so the file may be deleted, copied or edited; an entry that is no candidate for its problem is ignored.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import statistics
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from deformwarp.triton.arguments import Shape
from deformwarp.triton.plan import Device, Plan, Tile, plan

if TYPE_CHECKING:
    from typing_extensions import Unpack

Key = tuple[Shape, int, torch.dtype, Device]  # a problem's sizes, branches and type, and where it runs

FORMAT = 1
DIRECTIONS = ("forward", "backward")
TURNS = 20  # of which the median counts


@dataclass(frozen=True)
class Tuned:
    """What :func:`deformwarp.tune` found, and the file that remembers it."""

    forward: Tile
    backward: Tile
    path: Path


def cache_file() -> Path:
    """Where findings are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deformwarp" / "triton.json"


def key_of(shape: Shape, branches: int, dtype: torch.dtype, device: Device) -> str:
    """The name of a problem on a device."""
    name = str(dtype).removeprefix("torch.")
    version = importlib.metadata.version("triton")
    return f"{device.name}; triton {version}; {name}; {branches} branches; {', '.join(map(str, shape))}"


def candidates(settings: Plan) -> list[Tile]:
    """The tiles that may replace those of a plan."""
    pixels = [settings.lanes * strips for strips in (1, 2, 4)] if settings.planar else [16, 32, 64, 128]
    return [Tile(number, warps) for number in pixels for warps in (2, 4, 8)]


def _read(path: Path) -> dict[str, Any]:
    """The file's tiles by key.

    Raises:
        ValueError: the file is not one of ours.
    """
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("tiles"), dict):
        raise ValueError(f"it is no JSON object of format {FORMAT}")
    tiles: dict[str, Any] = content["tiles"]
    return tiles


@functools.cache
def _remembered() -> dict[str, Any]:
    path = cache_file()
    try:
        return _read(path)
    except (OSError, ValueError) as error:
        warnings.warn(f"deformwarp: {path} is ignored: {error}", stacklevel=2)
        return {}


def with_tile(settings: Plan, direction: str, tile: Tile) -> Plan:
    """A plan with another tile for ``"forward"`` or ``"backward"``."""
    return replace(settings, forward=tile) if direction == "forward" else replace(settings, backward=tile)


@functools.cache
def _lasting_settings(*key: Unpack[Key]) -> Plan:
    settings = plan(*key)
    tiles = _remembered().get(key_of(*key)) if _remembered() else None
    if not isinstance(tiles, dict):
        return settings
    for direction in DIRECTIONS:
        for tile in candidates(settings):
            if asdict(tile) == tiles.get(direction):
                settings = with_tile(settings, direction, tile)
    return settings


_on_trial: dict[Key, Plan] = {}


def settings_for(*key: Unpack[Key]) -> Plan:
    """The plan of a problem, with the tiles that were found for it, if any were."""
    return _on_trial.get(key) or _lasting_settings(*key)


def milliseconds(call: Callable[[], object]) -> float:
    """Median time of a call on the current GPU, after two that warm up."""
    times = []
    for _ in range(2 + TURNS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return float(statistics.median(times[2:]))


def best_tile(
    key: Key, direction: str, call: Callable[[], object], measure: Callable[[Callable[[], object]], float]
) -> Tile:
    """The candidate with which ``call`` takes the least time."""
    from triton.runtime.errors import OutOfResources

    settings, times = plan(*key), {}
    try:
        for tile in candidates(settings):
            _on_trial[key] = with_tile(settings, direction, tile)
            # One that needs more registers or shared memory than the GPU has is no candidate here.
            with suppress(OutOfResources):
                times[tile] = measure(call)
    finally:
        _on_trial.pop(key, None)
    return min(times, key=lambda tile: times[tile])


def remember(key: Key, forward: Tile, backward: Tile) -> Path:
    """Adds an entry to the file.

    Raises:
        ValueError: there is a file of that name that is not ours.
    """
    path = cache_file()
    try:
        tiles = _read(path)
    except ValueError as error:
        raise ValueError(f"{path}: would be overwritten, but {error}; move it away") from error
    tiles[key_of(*key)] = {"forward": asdict(forward), "backward": asdict(backward)}
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f"{path.name}.{os.getpid()}")
    written.write_text(json.dumps({"format": FORMAT, "tiles": tiles}, indent=1) + "\n")
    written.replace(path)
    _remembered.cache_clear()
    _lasting_settings.cache_clear()
    return path
