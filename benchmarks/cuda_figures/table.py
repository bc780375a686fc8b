"""The table of all figures: collected from a library, kept as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.cuda_figures import library as compiled
from benchmarks.cuda_figures.banks import OFFSETS, Conflicts, conflicts
from benchmarks.cuda_figures.library import Resources
from benchmarks.cuda_figures.loops import Turn, main_loop
from benchmarks.cuda_figures.prediction import Prediction, predictions, samples_of_turn

RESULTS = Path(__file__).parents[1] / "results/cuda-figures.json"
FAST_PATHS = ("planar_forward<", "planar_backward<")
LOOPS_ON = (80, 90, 100, 120)


@dataclass(frozen=True)
class Loop:
    """The main loop of one kernel on one architecture."""

    kernel: str
    architecture: int
    instructions: int  # of a turn
    samples: int  # that a thread computes in it

    @property
    def per_sample(self) -> float:
        """Instructions a sample."""
        return self.instructions / self.samples


@dataclass(frozen=True)
class Figures:
    """All of one build."""

    nvcc: str | None
    resources: list[Resources]
    loops: list[Loop]
    conflicts: dict[str, Conflicts]
    predictions: list[Prediction]


def element_bytes(kernel: str) -> int:
    """Of the kernel's tensors, by its name.

    >>> element_bytes("planar_forward<Sampler<float>, 3>"), element_bytes("planar_forward<BFloat16, 3>")
    (4, 2)
    """
    return 2 if "Half" in kernel or "BFloat16" in kernel else 4


def turns_of(library: Path, resources: Sequence[Resources], architecture: int) -> dict[str, Turn]:
    """The main loops of the fast paths on one architecture, by kernel."""
    names = {
        one.mangled: one.kernel
        for one in resources
        if one.architecture == architecture and one.kernel.startswith(FAST_PATHS)
    }
    if not names:
        return {}
    code = compiled.machine_code(library, architecture, list(names))
    turns = {names[mangled]: main_loop(text) for mangled, text in code.items() if mangled in names}
    return {kernel: turn for kernel, turn in turns.items() if turn is not None}


def loops_of(turns: dict[str, Turn], architecture: int) -> list[Loop]:
    """Their instructions and samples."""
    return [
        Loop(kernel, architecture, turn.instructions, samples_of_turn(turn, element_bytes(kernel)))
        for kernel, turn in sorted(turns.items())
    ]


def collect(libraries: Sequence[Path]) -> Figures:
    """Everything about a library, or the object files of one build; takes a minute."""
    resources: list[Resources] = []
    turns: dict[int, dict[str, Turn]] = {architecture: {} for architecture in LOOPS_ON}
    for library in libraries:
        of_it = compiled.resources(library)
        resources += of_it
        for architecture in LOOPS_ON:
            turns[architecture] |= turns_of(library, of_it, architecture)
    found = {offsets: conflicts(offsets) for offsets in OFFSETS}
    return Figures(
        compiled.nvcc_version(),
        sorted(resources, key=lambda one: (one.kernel, one.architecture)),
        [loop for architecture in LOOPS_ON for loop in loops_of(turns[architecture], architecture)],
        found,
        predictions(turns[90], found),
    )


def save(figures: Figures, path: Path) -> None:
    """As JSON, replaced in one step; conflicts and predictions follow from the rest, and are for readers."""
    kept: dict[str, dict[str, list[int]]] = {}
    for one in figures.resources:
        kept.setdefault(one.kernel, {})[str(one.architecture)] = [one.registers, one.stack, one.local, one.shared]
    data: dict[str, Any] = {
        "nvcc": figures.nvcc,
        "columns": ["registers", "stack", "local", "shared"],
        "resources": kept,
        "loops": [asdict(loop) for loop in figures.loops],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    text = re.sub(
        r"\[\s+([\d,\s]+?)\s+\]", lambda numbers: f"[{' '.join(numbers[1].split())}]", json.dumps(data, indent=1)
    )
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def load(path: Path = RESULTS) -> tuple[str | None, dict[tuple[str, int], list[int]], dict[tuple[str, int], float]]:
    """nvcc's version; by kernel and architecture registers, stack, local and shared bytes; instructions a sample."""
    data = json.loads(path.read_text(encoding="utf-8"))
    resources = {
        (kernel, int(architecture)): numbers
        for kernel, by_architecture in data["resources"].items()
        for architecture, numbers in by_architecture.items()
    }
    loops = {(one["kernel"], one["architecture"]): Loop(**one).per_sample for one in data["loops"]}
    return data["nvcc"], resources, loops
