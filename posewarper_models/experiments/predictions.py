"""Predicted people on disk, to go on from: what differs from the clip's own labels, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from posewarper_models.data.annotations import FrameLabels, Labels, Person


def save_predictions(predicted: Sequence[Labels], path: Path) -> None:
    """Writes the people of every labelled frame; there is never half a file."""
    data = {labels.clip: {str(i): _people(labels.frames[i]) for i in labels.labelled} for labels in predicted}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(data), encoding="utf-8")
    os.replace(unfinished, path)


def load_predictions(path: Path, clips: Sequence[Labels], method: str) -> list[Labels]:
    """What was written, for clips whose labels say which frames there are; in their order."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return [
        replace(
            labels,
            frames=tuple(_frame(frame, data[labels.clip].get(str(i))) for i, frame in enumerate(labels.frames)),
            source=method,
        )
        for labels in clips
    ]


def _people(frame: FrameLabels) -> list[dict[str, Any]]:
    return [
        vars(person)
        | {
            "keypoints": person.keypoints.round(3).tolist(),
            "scores": None if person.scores is None else person.scores.round(5).tolist(),
        }
        for person in frame.people
    ]


def _frame(frame: FrameLabels, people: list[dict[str, Any]] | None) -> FrameLabels:
    found = tuple(
        Person(
            person["track_id"],
            tuple(person["box"]),
            np.array(person["keypoints"]),
            None if person["head_box"] is None else tuple(person["head_box"]),
            None if person["scores"] is None else np.array(person["scores"]),
        )
        for person in people or ()
    )
    return replace(frame, people=found, labelled=people is not None, ignore_regions=())
