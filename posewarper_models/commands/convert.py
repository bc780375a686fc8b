"""``posewarper convert``: somebody else's checkpoint as one of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def convert(
    source: Annotated[Path, typer.Argument(help="Of the authors' code, of MMPose 0.x, of training here, or ours.")],
    target: Annotated[Path, typer.Argument(help="File to write; must not exist.")],
    half: Annotated[bool, typer.Option("--half", help="Keep float16, which takes half the space.")] = False,
) -> None:
    """Write a checkpoint in our format, and say what was taken and what was left over."""
    import torch

    from posewarper_models.checkpoints import load_checkpoint, save_checkpoint

    console = Console()
    model, report = load_checkpoint(source)
    console.print(str(report), soft_wrap=True, highlight=False)
    save_checkpoint(model, target, dtype=torch.float16 if half else torch.float32)
    console.print(f"written to {target}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")
