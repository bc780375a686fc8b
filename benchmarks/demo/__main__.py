"""``python -m benchmarks.demo --out FOLDER``: the drop-in comparison, and the layer at work:
on a photograph, and in a PoseWarper that propagates poses."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.demo import drop_in, photograph, propagation

PICTURE, TEXT = "photograph.png", "demo.txt"
VIDEO, PANEL = "propagation.gif", "propagation.png"
OUTPUTS = (PICTURE, VIDEO, PANEL, TEXT)


class FolderError(Exception):
    """The output folder cannot be used."""


def prepare_folder(folder: Path) -> None:
    """Creates it.

    Raises:
        FolderError: it is a file, or holds something else than this demo's own outputs.
    """
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"--out: {folder} is a file, but should be a folder")
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in OUTPUTS) if folder.exists() else []
    if foreign:
        some = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise FolderError(f"--out: {folder} holds other files ({some}); name a new or an empty folder")
    folder.mkdir(parents=True, exist_ok=True)


def outcome_table(pair: photograph.Pair, outcome: photograph.Outcome) -> Table:
    """Errors before and after."""
    share = pair.visible.float().mean().item()
    table = Table(
        "error against A",
        title="Warped back to A",
        caption=f"over the {100 * share:.0f} % of A's pixels that B shows; motion: where B is sampled against the true",
    )
    for title in ("before", "after", ""):
        table.add_column(title, justify="right")
    still = pair.motion.norm(dim=0)[pair.visible].mean().item()
    before, after = outcome.rmse_before, outcome.rmse_after
    table.add_row("RMSE (of 1)", f"{before:.4f}", f"{after:.4f}", f"{before / after:.1f} times lower")
    gain = outcome.psnr_after - outcome.psnr_before
    table.add_row("PSNR, dB", f"{outcome.psnr_before:.1f}", f"{outcome.psnr_after:.1f}", f"{gain:+.1f}")
    error = outcome.end_point_error
    table.add_row("motion, mean px", f"{still:.2f}", f"{error:.2f}", f"{still / error:.1f} times lower")
    return table


def run_photograph(console: Console, settings: photograph.Settings, path: Path) -> photograph.Outcome:
    """Learns with a progress bar, prints the errors and writes the picture."""
    console.rule("At work: a photograph, warped back from where a motion moved it")
    pair, start = photograph.make_pair(settings), time.perf_counter()
    columns = (
        TextColumn("learning, loss {task.fields[loss]:.4f}"),
        BarColumn(),
        TextColumn("step {task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=settings.steps, loss=float("nan"))
        outcome = photograph.learn(pair, settings, lambda step, loss: progress.update(task, advance=1, loss=loss))
    console.print(f"{settings.steps} steps in {time.perf_counter() - start:.0f} s")
    console.print(outcome_table(pair, outcome))
    photograph.draw(pair, outcome, path)
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all parts; 1 where the numbers differ, 2 where the folder cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder for the outputs; is created")
    folder = parser.parse_args(arguments).out
    try:
        prepare_folder(folder)
    except FolderError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    console = Console(record=True)
    with console.status("") as status:
        same = drop_in.run(console, say=status.update)
    run_photograph(console, photograph.Settings(), folder / PICTURE)
    propagation.run(console, propagation.Settings(), folder / VIDEO, folder / PANEL)
    console.print(
        f"The pictures are in {', '.join(str(folder / name) for name in OUTPUTS[:-1])}, this text in {folder / TEXT}"
    )
    console.save_text(str(folder / TEXT))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
