"""``python -m benchmarks.gpu_check.profile_table FILE.csv``: ncu's figures of each kernel, as a table to be read.

The file is what ``ncu --csv --page raw`` writes: lines of its own, a row of metric names, a row of units, and one row
for each kernel. Without a kernel in it nothing was profiled, whatever ncu's exit status was.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

# Heading and metric; percentages are of the peak that can be sustained.
COLUMNS = {
    "time": "gpu__time_duration.sum",
    "DRAM": "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
    "L2": "lts__throughput.avg.pct_of_peak_sustained_elapsed",
    "L1 and shared": "l1tex__throughput.avg.pct_of_peak_sustained_active",
    "SM": "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "warps": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "registers": "launch__registers_per_thread",
    "instructions": "smsp__inst_executed.sum",
    "conflicts, loads": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum",
    "conflicts, stores": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum",
}
PERMISSION = "ERR_NVGPUCTRPERM"
REMEDY = "run as root, or load the driver with NVreg_RestrictProfilingToAdminUsers=0"


class NothingProfiledError(Exception):
    """The file has no kernel; the message says what ncu said."""


def kernels(lines: Iterable[str]) -> list[dict[str, str]]:
    """A dictionary from metric to value with unit for each kernel, and its name as ``Kernel Name``.

    Raises:
        NothingProfiledError: there is none.
    """
    said, rows = [], []
    for line in lines:
        (rows if line.startswith('"') else said).append(line)
    names, units, *values = [*csv.reader(rows), [], []]
    found = [
        {name: f"{value} {unit}".strip() for name, value, unit in zip(names, row, units, strict=True)}
        for row in values
        if row
    ]
    if not found:
        errors = " ".join(line.strip() for line in said if line.startswith(("==ERROR==", "==WARNING==")))
        remedy = f": {REMEDY}" if PERMISSION in errors else ""
        raise NothingProfiledError(f"no kernel was profiled: {errors or 'ncu says nothing'}{remedy}")
    return found


def markdown(found: Sequence[dict[str, str]]) -> str:
    """One row for each kernel; a metric that this version of ncu lacks is a dash."""
    lines = [f"| kernel | {' | '.join(COLUMNS)} |", f"| --- |{' ---: |' * len(COLUMNS)}"]
    for kernel in found:
        name = kernel["Kernel Name"].replace("|", "\\|")
        lines.append(f"| {name} | {' | '.join(kernel.get(metric, '-') for metric in COLUMNS.values())} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; 1 if there is none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check.profile_table", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--markdown", type=Path, help="writes the table there, too")
    arguments = parser.parse_args(argv)
    try:
        table = markdown(kernels(arguments.file.read_text(errors="replace").splitlines()))
    except (OSError, NothingProfiledError) as error:
        sys.stderr.write(f"{arguments.file}: {error}\n")
        return 1
    sys.stdout.write(table)
    if arguments.markdown:
        arguments.markdown.write_text(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
