"""``posewarper evaluate``: average precision and PCK of predicted poses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from posewarper_models.data.posetrack import read_posetrack
from posewarper_models.evaluate import Evaluation, HeadMode, by_group, without_given
from posewarper_models.evaluate import evaluate as measured


def evaluate(
    truth: Annotated[Path, typer.Argument(help="Ground truth: a PoseTrack JSON file, or a folder of them.")],
    predictions: Annotated[Path, typer.Argument(help="Predictions, in the same format, with scores.")],
    head: Annotated[
        HeadMode, typer.Option(help="Where the predictions' neck and top of the head come from; see the documentation.")
    ] = "annotated",
    boxes: Annotated[
        str, typer.Option(help="Whose person boxes the predictions were made with; is only stated.")
    ] = "not stated",
    given: Annotated[
        Path | None, typer.Option(help="The labels that were propagated; the frames they label are left out.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A new JSON file for the numbers.")] = None,
) -> None:
    """Average precision per joint as poseval counts it, and PCK."""
    if out is not None and out.exists():
        raise typer.BadParameter(f"{out} exists; name a new file", param_hint="--out")
    known = read_posetrack(truth)
    if given is not None:
        known = without_given(known, read_posetrack(given))
    result = measured(known, read_posetrack(predictions), head=head, boxes=boxes)
    console = Console()
    console.print(result.setting, soft_wrap=True)
    console.print(_table(result))
    if result.pck is None:
        console.print(f"PCK: not stated, as track ids are not the ground truth's: {result.no_pck}", soft_wrap=True)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(_numbers(result), indent=2), encoding="utf-8")
        console.print(f"numbers in {out}", soft_wrap=True)


def _rows(result: Evaluation) -> dict[str, dict[str, float]]:
    rows = {"AP": result.ap, "precision": result.precision, "recall": result.recall}
    for threshold, values in (result.pck or {}).items():
        rows[f"PCK@{threshold:g}"] = values
    return {name: by_group(values) for name, values in rows.items()}


def _table(result: Evaluation) -> Table:
    table = Table("%")
    rows = _rows(result)
    for column in rows["AP"]:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(name, *("-" if np.isnan(value) else f"{value:.1f}" for value in row.values()))
    return table


def _numbers(result: Evaluation) -> dict[str, Any]:
    """Plain data; null for joints that are not annotated."""
    rows = {
        name: {column: None if np.isnan(value) else value for column, value in row.items()}
        for name, row in _rows(result).items()
    }
    names = ("truth", "predictions", "boxes", "head", "people", "frames")
    return {**{name: getattr(result, name) for name in names}, **rows}
