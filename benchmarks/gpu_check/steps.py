"""Runs commands, some at the same time, each within its time; one that fails does not stop the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LAST_LINES = 3  # of a failed step's output, in the table
GRACE = 4.0  # seconds from asking a process to end to ending it
POLL = 0.05  # seconds


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


Stage = tuple[Step, ...]  # run at the same time: none of them measures time, or it is alone


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
    """One file with the output of all steps, one after another; a step's own file exists while it runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(b"")

    def of(self, step: Step) -> Path:
        """The file that the step writes."""
        return self._path.with_suffix(f".{step.name.replace(' ', '-')}")

    def take(self, step: Step, outcome: Ended) -> None:
        """Adds a step that has ended, and its output if it ran."""
        own = self.of(step)
        with self._path.open("ab") as file:
            file.write(f"\n=== {step.name}: {' '.join(step.command)}\n".encode())
            if own.exists():
                file.write(own.read_bytes())
                own.unlink()
            file.write(f"=== {outcome}\n".encode())


def _interruptible() -> None:
    """In a new process: a shell has what it runs in the background ignore interrupts, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Running:
    """A step under way."""

    def __init__(self, step: Step, allowed: float, output: Path) -> None:
        self.step, self.allowed, self._output = step, allowed, output
        self._begin = time.monotonic()
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                list(step.command),
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | dict(step.environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group that can be ended as a whole
                preexec_fn=_interruptible,
            )

    def ended(self) -> Ended | None:
        """What became of it, or None while it may go on; one that is out of time is ended here."""
        code = self._process.poll()
        if code == 0:
            return self._outcome(Status.PASSED)
        if code is not None:
            return self._outcome(Status.FAILED, f"exit status {code}; {self._last_lines()}")
        if time.monotonic() - self._begin < self.allowed:
            return None
        self.end()
        return self._outcome(Status.TIMED_OUT, self._last_lines())

    def end(self) -> None:
        """With everything that it started; an interrupt comes first, upon which pytest still tells what it found."""
        for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, how)
                self._process.wait(GRACE)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue

    def _outcome(self, status: Status, note: str | None = None) -> Ended:
        step = self.step
        return Ended(step.name, list(step.command), status, time.monotonic() - self._begin, self.allowed, note)

    def _last_lines(self) -> str:
        lines = self._output.read_text(errors="replace").split("\n")
        return " / ".join([line.strip() for line in lines if line.strip()][-LAST_LINES:])


def _begun(step: Step, seconds: float, log: Log) -> Running | Ended:
    allowed = max(0.0, min(step.seconds, seconds))
    reason = step.why_not() or ("no time is left" if allowed == 0 else None)
    if reason is not None:
        return Ended(step.name, list(step.command), Status.SKIPPED, 0.0, allowed, reason)
    try:
        return Running(step, allowed, log.of(step))
    except OSError as error:
        return Ended(step.name, list(step.command), Status.FAILED, 0.0, allowed, str(error))


def _together(stage: Stage, log: Log, seconds: float) -> Iterator[tuple[Step, Ended]]:
    """The steps of a stage as they end."""
    begun = [(step, _begun(step, seconds, log)) for step in stage]
    try:
        while begun:
            for step, state in begun:
                outcome = state if isinstance(state, Ended) else state.ended()
                if outcome is not None:
                    begun = [other for other in begun if other[0] is not step]
                    yield step, outcome
            time.sleep(POLL)
    finally:  # an interrupted check leaves nothing running
        for _, state in begun:
            if isinstance(state, Running):
                state.end()


def run_stages(
    stages: Sequence[Stage],
    log: Log,
    seconds: float,
    ended: Callable[[list[Ended]], None] = lambda so_far: None,
) -> list[Ended]:
    """All stages, one after another, within so many seconds; ``ended`` is told after each step."""
    begin = time.monotonic()
    outcomes: list[Ended] = []
    for stage in stages:
        for step, outcome in _together(stage, log, seconds - (time.monotonic() - begin)):
            log.take(step, outcome)
            outcomes.append(outcome)
            ended(outcomes)
    return outcomes


def save(path: Path, about: dict[str, Any], outcomes: Sequence[Ended]) -> None:
    """Where it ran and what became of the steps, as JSON, replaced in one step."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(about | {"steps": [asdict(outcome) for outcome in outcomes]}, indent=1) + "\n")
    partial.replace(path)
