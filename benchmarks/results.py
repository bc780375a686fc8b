"""A results file: what was measured, and the rows that follow from it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.peers import GRID_SAMPLE, OURS
from benchmarks.workloads import MODES, Workload

SCHEMA = 1


@dataclass
class Measurement:
    """One peer on one workload in one mode."""

    peer: str
    label: str
    seconds: float | None = None  # median
    lower_quartile: float | None = None
    upper_quartile: float | None = None
    turns: int = 0
    error: float | None = None  # relative, against the reference in float64
    memory_bytes: int | None = None
    note: str | None = None  # why there is no time


@dataclass
class ModeResult:
    """All peers on one workload in one mode."""

    mode: str
    bytes_moved: int
    measurements: list[Measurement] = field(default_factory=list)


@dataclass
class WorkloadResult:
    """All modes of one workload, and the bandwidth just before."""

    workload: Workload
    bandwidth: dict[str, float]
    modes: list[ModeResult] = field(default_factory=list)


@dataclass
class Results:
    """One run."""

    machine: dict[str, Any]
    versions: dict[str, str]
    commit: dict[str, Any]
    threads: int
    settings: dict[str, Any]
    workloads: list[WorkloadResult] = field(default_factory=list)
    complete: bool = False
    schema: int = SCHEMA


@dataclass(frozen=True)
class Row:
    """One measurement with what follows from it."""

    group: str
    workload: str
    mode: str
    peer: str
    label: str
    milliseconds: float | None
    over_torchvision: float | None  # how many times as fast
    over_grid_sample: float | None
    gigabytes_per_second: float | None
    share_of_copy: float | None
    memory_mib: float | None
    error: float | None
    turns: int
    slower: bool  # ours, but some other peer is faster
    note: str | None


def _fastest(seconds: dict[str, float], names: set[str]) -> float | None:
    return min((value for name, value in seconds.items() if name in names), default=None)


def _over(other: float | None, own: float | None) -> float | None:
    return None if other is None or own is None else other / own


def _row(result: WorkloadResult, mode: ModeResult, one: Measurement, seconds: dict[str, float]) -> Row:
    rate = None if one.seconds is None else mode.bytes_moved / one.seconds
    fastest_other = _fastest(seconds, set(seconds) - set(OURS))
    return Row(
        result.workload.group,
        result.workload.name,
        mode.mode,
        one.peer,
        one.label,
        None if one.seconds is None else one.seconds * 1e3,
        _over(seconds.get("torchvision"), one.seconds),
        _over(_fastest(seconds, set(GRID_SAMPLE)), one.seconds),
        None if rate is None else rate / 1e9,
        None if rate is None else rate / result.bandwidth["copy"],
        None if one.memory_bytes is None else one.memory_bytes / 2**20,
        one.error,
        one.turns,
        one.peer in OURS and one.seconds is not None and fastest_other is not None and one.seconds > fastest_other,
        one.note,
    )


def rows(results: Results) -> Iterator[Row]:
    """Every measurement of a run."""
    for result in results.workloads:
        for mode in result.modes:
            seconds = {one.peer: one.seconds for one in mode.measurements if one.seconds is not None}
            for one in mode.measurements:
                yield _row(result, mode, one, seconds)


def _workload(data: dict[str, Any]) -> Workload:
    return Workload(**{name: tuple(value) if isinstance(value, list) else value for name, value in data.items()})


def from_dict(data: dict[str, Any]) -> Results:
    """The inverse of ``dataclasses.asdict``."""
    if data.get("schema") != SCHEMA:
        raise ValueError(f"results: schema is {data.get('schema')}, but should be {SCHEMA}: run the benchmark again")
    workloads = [
        WorkloadResult(
            _workload(entry["workload"]),
            entry["bandwidth"],
            [
                ModeResult(mode["mode"], mode["bytes_moved"], [Measurement(**one) for one in mode["measurements"]])
                for mode in entry["modes"]
            ],
        )
        for entry in data["workloads"]
    ]
    return Results(**{**data, "workloads": workloads})


def load(path: Path) -> Results:
    """Reads a JSON results file."""
    return from_dict(json.loads(path.read_text(encoding="utf-8")))


def save(results: Results, path: Path) -> None:
    """Writes JSON to ``path`` and the rows beside it as CSV; each file is replaced in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(results), indent=1) + "\n"
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(column.name for column in fields(Row))
        writer.writerows(asdict(row).values() for row in rows(results))
    partial.replace(path.with_suffix(".csv"))


def mode_label(name: str) -> str:
    """What a reader calls a mode."""
    return MODES[name].label
