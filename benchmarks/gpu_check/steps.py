"""Runs commands one after another, each within its time; one that fails does not stop the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LAST_LINES = 3  # of a failed step's output, in the table
GRACE = 5.0  # seconds from asking a process to end to ending it


class Status(str, Enum):
    """How a step ended."""

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    SKIPPED = "skipped"


def _always() -> str | None:
    return None


@dataclass(frozen=True)
class Step:
    """One command."""

    name: str
    command: Sequence[str]
    seconds: float  # that it may take
    why_not: Callable[[], str | None] = _always  # why it cannot be done here, or None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """What became of a step."""

    name: str
    command: list[str]
    status: Status
    seconds: float
    allowed: float
    note: str | None = None  # why it was skipped, or how it failed

    @property
    def is_sound(self) -> bool:
        """Whether it was done, and found nothing."""
        return self.status is Status.PASSED

    def __str__(self) -> str:
        note = "" if self.note is None else f": {self.note}"
        return f"{self.name:<12} {self.status.value:<10} {self.seconds:7.1f} s of {self.allowed:.0f}{note}"


class Log:
    """One file with the output of all steps."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(b"")

    def add(self, text: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)

    def run(self, step: Step, allowed: float) -> tuple[Status, str | None]:
        """The command with its output in the log; the note is the output's end where it fails."""
        begin = self._path.stat().st_size
        with self._path.open("ab") as output:
            try:
                process = subprocess.Popen(
                    list(step.command),
                    cwd=ROOT,
                    env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | dict(step.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a group that can be ended as a whole
                )
            except OSError as error:
                return Status.FAILED, str(error)
            try:
                code = process.wait(allowed)
            except subprocess.TimeoutExpired:
                _end(process)
                return Status.TIMED_OUT, self._end_of_output(begin)
            except BaseException:  # an interrupted check leaves nothing running
                _end(process)
                raise
        if code == 0:
            return Status.PASSED, None
        return Status.FAILED, f"exit status {code}; {self._end_of_output(begin)}"

    def _end_of_output(self, begin: int) -> str:
        with self._path.open("rb") as file:
            file.seek(begin)
            lines = file.read().decode(errors="replace").split("\n")
        return " / ".join([line.strip() for line in lines if line.strip()][-LAST_LINES:])


def _end(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(GRACE)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def run_steps(
    steps: Sequence[Step],
    log: Log,
    seconds: float,
    ended: Callable[[list[Ended]], None] = lambda so_far: None,
) -> list[Ended]:
    """All steps, within so many seconds; ``ended`` is told after each of them."""
    begin = time.monotonic()
    outcomes: list[Ended] = []
    for step in steps:
        started = time.monotonic()
        allowed = max(0.0, min(step.seconds, seconds - (started - begin)))
        status, note = Status.SKIPPED, step.why_not()
        if note is None and allowed == 0:
            note = "no time is left"
        elif note is None:
            log.add(f"\n=== {step.name}: {' '.join(step.command)}\n")
            status, note = log.run(step, allowed)
        outcome = Ended(step.name, list(step.command), status, time.monotonic() - started, allowed, note)
        log.add(f"=== {outcome}\n")
        outcomes.append(outcome)
        ended(outcomes)
    return outcomes


def save(path: Path, about: dict[str, Any], outcomes: Sequence[Ended]) -> None:
    """Where it ran and what became of the steps, as JSON, replaced in one step."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(about | {"steps": [asdict(outcome) for outcome in outcomes]}, indent=1) + "\n")
    partial.replace(path)
