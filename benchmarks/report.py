"""``python -m benchmarks.report RESULTS``: a results file as tables, as a plot, and as a section of the README."""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.peers import PEERS
from benchmarks.results import Results, Row, load, mode_label, rows

MARKERS = {  # of the README's sections, by device
    "cpu": ("<!-- benchmark:begin -->", "<!-- benchmark:end -->"),
    "gpu": ("<!-- benchmark-gpu:begin -->", "<!-- benchmark-gpu:end -->"),
}
SLOWER = " (slower)"
Cells = list[str]


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}{unit}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def peers_of(results: Results) -> dict[str, str]:
    """Labels of those that the run had, by name, in the order of the registry."""
    found = {row.peer for row in rows(results)}
    return {name: peer.label for name, peer in PEERS.items() if name in found}


def by_case(results: Results) -> dict[tuple[str, str], dict[str, Row]]:
    """Rows by (workload, mode) and peer."""
    cases: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for row in rows(results):
        cases[row.workload, row.mode][row.peer] = row
    return dict(cases)


def summary(results: Results, group: str | None = None) -> tuple[Cells, list[Cells]]:
    """Header and lines, one line for a workload in a mode."""
    shown = peers_of(results)
    header = ["workload", "", *(f"{label}, ms" for label in shown.values())]
    header += ["over torchvision", "over grid_sample", "GB/s", "of copy", "extra MiB", "torchvision's", "grid_sample's"]
    lines = []
    for (workload, mode), peers in by_case(results).items():
        own = peers.get("deformwarp")
        if own is None or group not in (None, own.group):
            continue
        times = [
            "-" if name not in peers else _number(peers[name].milliseconds) + (SLOWER if peers[name].slower else "")
            for name in shown
        ]
        other_memory = [
            _number(peers[name].memory_mib) if name in peers else "-" for name in ("torchvision", "grid_sample")
        ]
        lines.append(
            [
                workload,
                mode_label(mode),
                *times,
                _number(own.over_torchvision, "x"),
                _number(own.over_grid_sample, "x"),
                _number(own.gigabytes_per_second),
                _percent(own.share_of_copy),
                _number(own.memory_mib),
                *other_memory,
            ]
        )
    return header, lines


def details(results: Results) -> tuple[Cells, list[Cells]]:
    """Header and lines, one line for a measurement."""
    header = [
        "workload",
        "",
        "peer",
        "ms",
        "over torchvision",
        "over grid_sample",
        "GB/s",
        "of copy",
        "extra MiB",
        "error",
    ]
    lines = []
    for row in rows(results):
        time = row.note or _number(row.milliseconds) + (SLOWER if row.slower else "")
        ratios = [_number(row.over_torchvision, "x"), _number(row.over_grid_sample, "x")]
        rate = [_number(row.gigabytes_per_second), _percent(row.share_of_copy), _number(row.memory_mib)]
        error = "-" if row.error is None else f"{row.error:.0e}"
        lines.append([row.workload, mode_label(row.mode), row.label, time, *ratios, *rate, error])
    return header, lines


def notes(results: Results) -> list[str]:
    """Why some peers have no time, each reason once."""
    peers_of: dict[str, list[str]] = defaultdict(list)
    for row in rows(results):
        if row.note is not None:
            peers_of[f"{row.label}: {row.note}"].append(f"{row.workload} ({mode_label(row.mode)})")
    return [f"{reason}: {', '.join(cases)}" for reason, cases in peers_of.items()]


def losses(results: Results) -> list[str]:
    """Where some other peer is faster than deformwarp."""
    return [f"{row.workload} ({mode_label(row.mode)}): {row.label}" for row in rows(results) if row.slower]


def origin(results: Results) -> str:
    """Machine, versions and commit in one sentence."""
    machine, versions, commit = results.machine, results.versions, results.commit
    memory = "" if machine["memory_bytes"] is None else f", {machine['memory_bytes'] / 2**30:.0f} GiB"
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    state = " and uncommitted changes" if commit["dirty"] else ""
    unfinished = "" if results.complete else " The run was interrupted: workloads are missing."
    if "gpu" in machine:
        gpu = machine["gpu"]
        where = (
            f"{gpu['name']} ({gpu['architecture']}), driver {gpu['driver']}, CUDA {gpu['cuda']}, on {machine['cpu']}"
        )
    else:
        where = f"{machine['cpu']}, {machine['cores']} cores{memory}, {machine['isa']}; {results.threads} threads"
    return f"{where}; {packages}; commit {str(commit['hash'])[:10]}{state}.{unfinished}"


def bandwidth(results: Results) -> str:
    """The measured bandwidth: the middle one of those before each workload."""
    middle = {
        name: sorted(entry.bandwidth[name] for entry in results.workloads)[len(results.workloads) // 2] / 1e9
        for name in ("copy", "read")
    }
    return f"Measured bandwidth: copy {middle['copy']:.1f} GB/s (read and written), read {middle['read']:.1f} GB/s."


def _table_of(header: Cells, lines: list[Cells]) -> str:
    marks = ["---" if column < 2 else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, marks, *lines))


def markdown(results: Results, name: str, plot: str | None = None) -> str:
    """The section of a README."""
    parts = [f"Generated from `{name}` by `python -m benchmarks.report`. {origin(results)}", bandwidth(results)]
    parts.append(
        "Medians of interleaved runs; a time stands here only if the result agreed with the float64 reference."
    )
    for group in dict.fromkeys(entry.workload.group for entry in results.workloads):
        header, lines = summary(results, group)
        if lines:
            parts += [f"**{group}**", _table_of(header, lines)]
    lost = losses(results)
    parts.append(f"Slower than the fastest peer: {'; '.join(lost) if lost else 'nowhere in this run'}.")
    parts += [f"No time: {note}." for note in notes(results)]
    if plot is not None:
        parts.append(f"![times, ratios and share of the copy bandwidth]({plot})")
    return "\n\n".join(parts)


def with_section(readme: str, section: str, device: str) -> str:
    """README with the section between the device's markers replaced.

    Raises:
        ValueError: a marker is missing.
    """
    opening, closing = MARKERS[device]
    head, begin, rest = readme.partition(opening)
    _, end, tail = rest.partition(closing)
    if not begin or not end:
        raise ValueError(f"README: has no section between {opening} and {closing}")
    return f"{head}{begin}\n\n{section}\n\n{end}{tail}"


def console() -> Console:
    """The terminal; wide enough for the table where the output goes to a file."""
    return Console(width=None if sys.stdout.isatty() else 240)


def show(results: Results, console: Console, every: bool = False) -> None:
    """Prints the table; ``every`` has a line for each peer."""
    header, lines = details(results) if every else summary(results)
    table = Table(caption=f"{origin(results)} {bandwidth(results)}")
    for column, name in enumerate(header):
        table.add_column(name, justify="left" if column < 2 else "right", no_wrap=column == 0)
    for line in lines:
        table.add_row(*line, style="red" if any(cell.endswith(SLOWER) for cell in line) else None)
    console.print(table)
    for note in notes(results):
        console.print(f"no time: {note}", markup=False)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("results", type=Path, help="a JSON results file")
    parser.add_argument("--details", action="store_true", help="a line for each peer")
    parser.add_argument("--markdown", type=Path, nargs="?", const=True, help="print Markdown, or write it to a file")
    parser.add_argument("--plot", type=Path, nargs="?", const=True, help="write a PNG (default: beside the results)")
    parser.add_argument("--readme", type=Path, help="rewrite its section for this kind of machine")
    parser.add_argument("--check", action="store_true", help="with --readme: change nothing, exit 1 if it is stale")
    return parser.parse_args(argv)


def _relative(path: Path, readme: Path) -> str:
    return Path(os.path.relpath(path.resolve(), readme.resolve().parent)).as_posix()


def _readme(results: Results, arguments: argparse.Namespace) -> int:
    path, readme = arguments.results, arguments.readme
    plot = path.with_suffix(".png")
    section = markdown(results, _relative(path, readme), _relative(plot, readme) if plot.exists() else None)
    before = readme.read_text(encoding="utf-8")
    after = with_section(before, section, "gpu" if "gpu" in results.machine else "cpu")
    if arguments.check:
        if before != after:
            sys.stderr.write(
                f"{readme} is not what {path} gives: run python -m benchmarks.report {path} --readme {readme}\n"
            )
        return int(before != after)
    readme.write_text(after, encoding="utf-8")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Reports, and gives the exit code."""
    arguments = _arguments(argv)
    results = load(arguments.results)
    if arguments.plot:
        from benchmarks.plot import draw

        draw(results, arguments.results.with_suffix(".png") if arguments.plot is True else arguments.plot)
    if arguments.readme:
        return _readme(results, arguments)
    if arguments.markdown:
        text = markdown(results, arguments.results.name) + "\n"
        if arguments.markdown is True:
            sys.stdout.write(text)
        else:
            arguments.markdown.write_text(text, encoding="utf-8")
    else:
        show(results, console(), arguments.details)
    return 0


if __name__ == "__main__":
    sys.exit(main())
