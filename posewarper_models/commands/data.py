"""Reading labelled clips, and saying what was read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console

from posewarper_models.data.annotations import Clip
from posewarper_models.data.posetrack import open_clips


def read_clips(root: Path, labels: Path, console: Console) -> list[Clip]:
    """Clips of labels, with the images under ``root``; prints their version and who labelled them."""
    clips = open_clips(labels, root)
    kinds = Counter((clip.labels.version, clip.labels.source) for clip in clips)
    for (version, source), count in kinds.items():
        console.print(f"{labels}: {count} clips, {version}, {source}", soft_wrap=True, highlight=False)
    return clips
