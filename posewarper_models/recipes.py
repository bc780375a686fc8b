"""What an output folder was made with: a folder of something else is refused, one of the same is gone on with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


class OutputFolderError(ValueError):
    """A folder that holds something else. The message names it and what is there."""


def keep_recipe(path: Path, recipe: Mapping[str, Any]) -> None:
    """Writes the recipe, or checks that it is the one which is there.

    Args:
        path: of the JSON file; its folder is created.
        recipe: plain data.

    Raises:
        OutputFolderError: what is there was made in another way; names the first field that differs.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(recipe), indent=2), encoding="utf-8")
        return
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OutputFolderError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(there, dict):
        raise OutputFolderError(f"{path}: holds {there!r}, should hold what the folder was made with")
    for name in {**recipe, **there}:
        if there.get(name) == recipe.get(name):
            continue
        if name not in there:
            raise OutputFolderError(f"{path}: does not say with which {name} it was made; name another folder")
        raise OutputFolderError(
            f"{path}: what is there was made with {name} = {there[name]}, not {recipe.get(name)}; name another folder"
        )


def fingerprint(file: Path) -> str:
    """Of all bytes of a file: labels, weights."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def frames_at(path: Path) -> str:
    """Which frames those of a folder or a video are, without reading them: the place, and a file's size and time."""
    place = path.resolve()
    if place.is_dir():
        return str(place)
    stat = place.stat()
    changed = datetime.fromtimestamp(stat.st_mtime, timezone.utc).isoformat()
    return f"{place}, {stat.st_size} bytes of {changed}"


def check_folder(folder: Path) -> None:
    """Raises :class:`OutputFolderError` where ``folder`` is a file."""
    if folder.exists() and not folder.is_dir():
        raise OutputFolderError(f"{folder}: is a file, should be a folder")
