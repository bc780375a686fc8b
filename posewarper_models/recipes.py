"""What an output folder was made with: a folder of something else is refused, one of the same is gone on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    for name in sorted({*there, *recipe}):
        if there.get(name) != recipe.get(name):
            raise OutputFolderError(
                f"{path}: what is there was made with {name} = {there.get(name)}, not {recipe.get(name)}; "
                "name another folder"
            )


def check_folder(folder: Path) -> None:
    """Raises :class:`OutputFolderError` where ``folder`` is a file."""
    if folder.exists() and not folder.is_dir():
        raise OutputFolderError(f"{folder}: is a file, should be a folder")
