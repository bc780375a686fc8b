"""Synthetic data sets on disk, in PoseTrack18's layout.

    FOLDER/images/SPLIT/000000_synth/000000.jpg
    FOLDER/annotations/SPLIT/000000_synth.json
    FOLDER/synthetic_SPLIT.json                   what it was made with

A clip's annotations are written last: a clip that has them is complete, and is not made again.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path

import cv2

from posewarper_models.data.posetrack import write_posetrack
from posewarper_models.data.synthetic import Scene, SceneSettings, clip_labels
from posewarper_models.recipes import OutputFolderError, check_folder, keep_recipe

JPEG_QUALITY = 95


def write_clips(
    folder: Path, settings: SceneSettings, clips: int, seed: int, split: str = "train", workers: int = 1
) -> Iterator[int]:
    """Makes the clips that are not there yet, and yields the number of each clip once it is complete.

    Started again with the same settings and seed it goes on where it was stopped; with a larger ``clips`` it adds some.

    Args:
        folder: is created. It may hold other splits of a synthetic data set and nothing else.
        settings: the kind of scene.
        clips: how many; clip i does not depend on their number.
        seed: of the data set.
        split: "train", "val", ...
        workers: processes to use.

    Raises:
        OutputFolderError: the folder holds other files, or clips made in another way.
        ValueError: ``clips`` or ``workers`` is not positive, ``seed`` is negative, or ``split`` is not a plain name.
    """
    if clips < 1 or workers < 1:
        raise ValueError(f"clips and workers: are {clips} and {workers}, should be at least 1")
    if seed < 0:
        raise ValueError(f"seed: is {seed}, should be at least 0")
    if not split.isidentifier():
        raise ValueError(f"split: is {split!r}, should be a plain name such as train or val")
    _prepare(folder, split, {"seed": seed, **json.loads(json.dumps(asdict(settings)))})
    return _written(folder, settings, clips, seed, split, workers)


def _prepare(folder: Path, split: str, recipe: dict[str, object]) -> None:
    check_folder(folder)
    recipe_path = folder / f"synthetic_{split}.json"
    known = {"images", "annotations"}
    inside = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    foreign = [name for name in inside if name not in known and not name.startswith("synthetic_")]
    if foreign:
        raise OutputFolderError(
            f"{folder}: holds other files ({', '.join(foreign[:3])}); name a new or an empty folder"
        )
    for part in sorted(known):
        if not recipe_path.exists() and (folder / part / split).exists():
            raise OutputFolderError(f"{folder / part / split}: is there, but {recipe_path} is not: who made it?")
    keep_recipe(recipe_path, recipe)


def _written(folder: Path, settings: SceneSettings, clips: int, seed: int, split: str, workers: int) -> Iterator[int]:
    missing = []
    for index in range(clips):
        if _annotations(folder, split, clip_labels(settings, index, split).clip).exists():
            yield index
        else:
            missing.append(index)
    if workers == 1:
        for index in missing:
            yield write_clip(folder, settings, index, seed, split)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        jobs = [pool.submit(write_clip, folder, settings, index, seed, split) for index in missing]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _annotations(folder: Path, split: str, clip: str) -> Path:
    return folder / "annotations" / split / f"{clip}.json"


def write_clip(folder: Path, settings: SceneSettings, index: int, seed: int, split: str) -> int:
    """Renders one clip and writes its images, then its annotations; returns its number."""
    scene, labels = Scene(settings, (seed, index)), clip_labels(settings, index, split)
    frames = []
    for frame, (image, seen) in enumerate(scene.frames()):
        empty = labels.frames[frame]
        path = folder / empty.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise OSError(f"{path}: cannot be written")
        frames.append(scene.labels(frame, seen, empty.image_id, empty.file_name))
    write_posetrack([replace(labels, frames=tuple(frames))], _annotations(folder, split, labels.clip))
    return index
