"""PoseTrack's annotation files: PoseTrack18's, one JSON a clip, and the COCO-style PoseTrack17 of PoseWarper's authors.

Both have ``images``, ``annotations`` and ``categories``. They differ in how frames are counted, which is a trap: images
are ``%08d.jpg`` from 1 in PoseTrack17 and ``%06d.jpg`` from 0 in PoseTrack18. What is read is checked; messages name
file and field.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError

from posewarper_models.data.annotations import UNTRACKED, AnnotationError, Array, Box, Clip, FrameLabels, Labels, Person
from posewarper_models.skeleton import JOINTS, NUM_JOINTS
from posewarper_models.video import ImageFrames

VERSIONS = {"PoseTrack17": 8, "PoseTrack18": 6}  # digits of an image's name
FIRST_FRAME = {"PoseTrack17": 1, "PoseTrack18": 0}

# poseval's person box, where an annotation has none: the extent of the joints, this much larger.
BOX_FROM_JOINTS = 1.3
# Joints of limbs that the border cuts are placed a little outside; farther than this share of the image is a mistake.
OUTSIDE_TOLERANCE = 0.1


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


def _zero_as_none(value: Any) -> Any:
    return None if value == 0 else value


_Length = Annotated[Annotated[int, Field(gt=0)] | None, BeforeValidator(_zero_as_none)]  # pixels


class _Image(_Record):
    id: int
    file_name: str
    is_labeled: bool | None = None
    nframes: Annotated[int, Field(gt=0)] | None = None
    width: _Length = None
    height: _Length = None
    ignore_regions_x: list[list[FiniteFloat]] = []
    ignore_regions_y: list[list[FiniteFloat]] = []


def _empty_as_none(value: Any) -> Any:
    return None if value == [] else value


_Box = Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]


class _Annotation(_Record):
    image_id: int
    track_id: int = UNTRACKED
    keypoints: list[FiniteFloat] = []
    scores: Annotated[list[FiniteFloat] | None, BeforeValidator(_empty_as_none)] = None
    bbox: Annotated[_Box | None, BeforeValidator(_empty_as_none)] = None
    bbox_head: Annotated[_Box | None, BeforeValidator(_empty_as_none)] = None


class _Category(_Record):
    name: str
    keypoints: list[str]


class _Info(_Record):
    description: str = ""


class _File(_Record):
    info: _Info = _Info()
    images: Annotated[list[_Image], Field(min_length=1)]
    annotations: list[_Annotation]
    categories: Annotated[list[_Category], Field(min_length=1, max_length=1)]


def read_posetrack(path: Path) -> list[Labels]:
    """All clips of a JSON file, or of every JSON file of a folder.

    Args:
        path: PoseTrack18 (``annotations/val/000342_mpii_test.json``, or the folder with such files), or the authors'
            PoseTrack17 (``posetrack_val.json``, all clips in one). Which of the two it is, the images' names say.

    Raises:
        AnnotationError: the file or the folder cannot be read or used; names file and field.
    """
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise AnnotationError(f"{path}: no JSON files in this folder")
        clips = [clip for file in files for clip in read_posetrack(file)]
    else:
        clips = _labels(path, _parsed(path))
    for name, times in Counter(clip.clip for clip in clips).items():
        if times > 1:
            raise AnnotationError(f"{path}: clip {name} is there {times} times: clips go by their images' folders")
    return clips


def open_clips(annotations: Path, root: Path) -> list[Clip]:
    """Clips of annotation files with their images.

    Args:
        annotations: a JSON file, or a folder of them: see :func:`read_posetrack`.
        root: the folder that the images' names start from.

    Raises:
        AnnotationError: as :func:`read_posetrack`, or an image is missing.
    """
    return [open_clip(labels, root) for labels in read_posetrack(annotations)]


def open_clip(labels: Labels, root: Path) -> Clip:
    """Labels with the images they name under ``root``."""
    paths = [root / frame.file_name for frame in labels.frames]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise AnnotationError(
            f"clip {labels.clip}: {len(missing)} of {len(paths)} images are missing, first {missing[0]}"
        )
    return Clip(labels, ImageFrames(paths))


def _parsed(path: Path) -> _File:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        data = json.loads(text)
    except ValueError as error:
        raise AnnotationError(f"{path}: not valid JSON: {error}") from error
    if isinstance(data, dict) and "annolist" in data:
        raise AnnotationError(f"{path}: annolist: is the MPII-style format; convert it to PoseTrack18's with poseval")
    try:
        return _File.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise AnnotationError(f"{path}: {field}: {first['msg']} (and {error.error_count() - 1} more errors)") from error


def _labels(path: Path, file: _File) -> list[Labels]:
    version = _version(path, file.images)
    order = _joint_order(path, file.categories[0])
    _check_ids(path, file)
    sizes = {image.id: (image.width, image.height) for image in file.images}
    people: dict[int, list[Person]] = {image.id: [] for image in file.images}
    for index, annotation in enumerate(file.annotations):
        where = f"{path}: annotations.{index}"
        if annotation.image_id not in people:
            raise AnnotationError(f"{where}.image_id: {annotation.image_id} is not the id of any image")
        person = _person(where, annotation, order, sizes[annotation.image_id])
        if person is not None:
            people[annotation.image_id].append(person)
    by_clip: dict[PurePosixPath, list[int]] = {}
    for index, image in enumerate(file.images):
        by_clip.setdefault(PurePosixPath(image.file_name).parent, []).append(index)
    source = file.info.description or f"labels of {path.name}"
    fresh_ids = itertools.count(max(people) + 1)
    return [
        _clip(path, folder, {index: file.images[index] for index in indices}, people, version, source, fresh_ids)
        for folder, indices in by_clip.items()
    ]


def _clip(
    path: Path,
    folder: PurePosixPath,
    images: dict[int, _Image],  # by their place in the file
    people: dict[int, list[Person]],
    version: str,
    source: str,
    fresh_ids: Iterator[int],
) -> Labels:
    """A clip with all its frames: files of sparse labels list only the labelled ones, the others are filled in."""
    sizes = {(image.width, image.height) for image in images.values()}
    if len(sizes) > 1:
        raise AnnotationError(f"{path}: clip {folder.name}: images of different sizes: {sorted(map(str, sizes))}")
    by_number = {int(PurePosixPath(image.file_name).stem): (index, image) for index, image in images.items()}
    frames = []
    for number in _frame_numbers(path, folder, by_number, version):
        if number in by_number:
            index, image = by_number[number]
            frames.append(_frame(f"{path}: images.{index}", image, people[image.id]))
        else:
            suffix = PurePosixPath(next(iter(images.values())).file_name).suffix
            name = f"{folder}/{number:0{VERSIONS[version]}d}{suffix}"
            frames.append(FrameLabels(next(fresh_ids), name, labelled=False))
    width, height = sizes.pop()
    return Labels(folder.name, tuple(frames), version, source, width, height)


def _frame_numbers(path: Path, folder: PurePosixPath, by_number: dict[int, tuple[int, _Image]], version: str) -> range:
    stated = {image.nframes for _, image in by_number.values()} - {None}
    if not stated:
        return range(min(by_number), max(by_number) + 1)
    if len(stated) > 1:
        raise AnnotationError(f"{path}: clip {folder.name}: images differ in nframes: {sorted(map(str, stated))}")
    count = stated.pop() or 0
    # A file that lists every frame may count them from anywhere.
    first = min(by_number) if len(by_number) == count else FIRST_FRAME[version]
    numbers = range(first, first + count)
    unknown = sorted(set(by_number) - set(numbers))
    if unknown:
        index, image = by_number[unknown[0]]
        raise AnnotationError(
            f"{path}: images.{index}.file_name: {image.file_name} is no frame of this clip: nframes is {len(numbers)}"
        )
    return numbers


def _frame(where: str, image: _Image, people: list[Person]) -> FrameLabels:
    return FrameLabels(
        image_id=image.id,
        file_name=image.file_name,
        people=tuple(people),
        labelled=bool(people) if image.is_labeled is None else image.is_labeled,
        ignore_regions=_polygons(where, image),
    )


def _version(path: Path, images: Sequence[_Image]) -> str:
    """By the digits of the images' names; every name must agree."""
    found = None
    for index, image in enumerate(images):
        name = PurePosixPath(image.file_name)
        where = f"{path}: images.{index}.file_name: {image.file_name}"
        if name.is_absolute() or ".." in name.parts or not name.parent.name:
            raise AnnotationError(f"{where}: should be FOLDER/CLIP/FRAME.jpg, relative to the data set")
        version = next((v for v, n in VERSIONS.items() if name.stem.isdecimal() and len(name.stem) == n), None)
        if version is None:
            raise AnnotationError(f"{where}: a frame is named by 8 digits (PoseTrack17) or by 6 (PoseTrack18)")
        if version != (found := found or version):
            raise AnnotationError(f"{where}: is {version}'s name, but the images before have {found}'s")
        if int(name.stem) < FIRST_FRAME[version]:
            raise AnnotationError(f"{where}: {version} counts frames from {FIRST_FRAME[version]}")
    assert found is not None  # the schema asks for an image
    return found


def _joint_order(path: Path, category: _Category) -> list[int]:
    """The place in the file of every joint of :data:`JOINTS`; -1 for an ear that the file does not have."""
    names = category.keypoints
    needed = [name for name in JOINTS if not name.endswith("_ear")]
    lacking = [name for name in needed if name not in names]
    foreign = [name for name in names if name not in JOINTS]
    if lacking or foreign:
        raise AnnotationError(
            f"{path}: categories.0.keypoints: are not PoseTrack's joints: "
            f"missing {lacking or 'none'}, unknown {foreign or 'none'}"
        )
    return [names.index(name) if name in names else -1 for name in JOINTS]


def _check_ids(path: Path, file: _File) -> None:
    ids = Counter(image.id for image in file.images)
    for index, image in enumerate(file.images):
        if ids[image.id] > 1:
            raise AnnotationError(f"{path}: images.{index}.id: {image.id} is used by {ids[image.id]} images")
    frames: dict[PurePosixPath, list[int]] = {}
    for index, image in enumerate(file.images):
        frames.setdefault(PurePosixPath(image.file_name).with_suffix(""), []).append(index)
    for frame, indices in frames.items():
        if len(indices) > 1:
            numbers = ", ".join(map(str, indices))
            raise AnnotationError(f"{path}: images {numbers}: file_name: are the same frame, {frame}")


def _person(
    where: str, annotation: _Annotation, order: list[int], size: tuple[int | None, int | None]
) -> Person | None:
    """None for an annotation without a single joint: PoseTrack has people of whom only the head's box is marked.

    Without the field ``keypoints`` it is a person box, as a detector gives it.
    """
    if not annotation.keypoints:
        box = _box(f"{where}.bbox", annotation.bbox, size)
        return None if box is None else Person(annotation.track_id, box, np.zeros((NUM_JOINTS, 3)))
    count = len(order) - order.count(-1)
    if len(annotation.keypoints) != 3 * count:
        raise AnnotationError(
            f"{where}.keypoints: {len(annotation.keypoints)} numbers, should be 3 x {count} (x, y, visible)"
        )
    # A last row of zeros, "not annotated", is what the -1 of a missing ear picks.
    table = np.vstack([np.array(annotation.keypoints).reshape(count, 3), np.zeros(3)])
    keypoints = table[order]
    keypoints[:, 2] = keypoints[:, 2] > 0
    if not keypoints.any():
        return None
    scores = None
    if annotation.scores is None:
        _check_inside(where, keypoints, size)
    else:  # predicted joints may be anywhere, and boxes follow them
        size = (None, None)
        if len(annotation.scores) != count:
            raise AnnotationError(f"{where}.scores: {len(annotation.scores)} numbers, should be {count}")
        scores = np.append(annotation.scores, 0.0)[order]
    box = _box(f"{where}.bbox", annotation.bbox, size) or box_around(keypoints)
    head_box = _box(f"{where}.bbox_head", annotation.bbox_head, (None, None))
    return Person(annotation.track_id, box, keypoints, head_box, scores)


def _check_inside(where: str, keypoints: Array, size: tuple[int | None, int | None]) -> None:
    for axis, (name, length) in enumerate(zip(("x", "y"), size, strict=True)):
        if length is None:
            continue
        margin = OUTSIDE_TOLERANCE * length
        outside = (keypoints[:, axis] < -margin) | (keypoints[:, axis] > length - 1 + margin)
        if outside.any():
            joint = int(outside.argmax())
            raise AnnotationError(
                f"{where}.keypoints: {JOINTS[joint]} has {name} = {keypoints[joint, axis]:g}, "
                f"far outside the image ({length} pixels)"
            )


def _box(where: str, values: Sequence[float] | None, size: tuple[int | None, int | None]) -> Box | None:
    if values is None:
        return None
    x, y, width, height = values
    if width <= 0 or height <= 0:
        raise AnnotationError(f"{where}: width {width:g} and height {height:g}, should be positive")
    for start, length, limit in ((x, width, size[0]), (y, height, size[1])):
        if limit is not None and (start + length <= 0 or start >= limit):
            raise AnnotationError(
                f"{where}: [{x:g}, {y:g}, {width:g}, {height:g}] is outside the {size[0]} x {size[1]} image"
            )
    return x, y, width, height


def box_around(keypoints: Array) -> Box:
    """The person box that poseval gives to annotations without one: 1.3 times the extent of the annotated joints.

    >>> points = np.zeros((17, 3)); points[5], points[16] = (10, 20, 1), (20, 40, 1)
    >>> box_around(points)
    (8.5, 17.0, 13.0, 26.0)
    """
    points = keypoints[(keypoints != 0).any(axis=1), :2]
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.maximum((high - low) * BOX_FROM_JOINTS, 1.0)
    x, y = (low + high - extent) / 2
    return float(x), float(y), float(extent[0]), float(extent[1])


def _polygons(where: str, image: _Image) -> tuple[Array, ...]:
    regions = []
    if len(image.ignore_regions_x) != len(image.ignore_regions_y):
        raise AnnotationError(f"{where}.ignore_regions_x: as many regions as in ignore_regions_y are needed")
    for x, y in zip(image.ignore_regions_x, image.ignore_regions_y, strict=True):
        if len(x) != len(y):
            raise AnnotationError(f"{where}.ignore_regions_x: a region has {len(x)} x and {len(y)} y")
        if len(x) >= 3:  # PoseTrack has some degenerate ones, which contain nothing
            regions.append(np.array([x, y]).T)
    return tuple(regions)


def write_posetrack(clips: Iterable[Labels], path: Path) -> None:
    """One JSON file with the labels of one clip (PoseTrack18) or of several (the authors' PoseTrack17).

    It is written under another name and moved into place: there is never half a file.

    Raises:
        AnnotationError: the clips differ in version or source.
    """
    clips = list(clips)
    kinds = {(clip.version, clip.source) for clip in clips}
    if len(kinds) != 1:
        raise AnnotationError(f"{path}: clips of one version and source are needed, not {sorted(kinds)}")
    version, source = kinds.pop()
    data = {
        "info": {"description": source, "version": version},
        "images": [image for clip in clips for image in _image_records(clip)],
        "annotations": [annotation for clip in clips for annotation in _annotation_records(clip)],
        "categories": [{"supercategory": "person", "id": 1, "name": "person", "keypoints": list(JOINTS)}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(data), encoding="utf-8")
    os.replace(unfinished, path)


def _image_records(clip: Labels) -> Iterable[dict[str, Any]]:
    for frame in clip.frames:
        record = {
            "id": frame.image_id,
            "frame_id": frame.image_id,
            "file_name": frame.file_name,
            "vid_id": clip.clip.split("_")[0],
            "nframes": len(clip.frames),
            "is_labeled": frame.labelled,
            "ignore_regions_x": [region[:, 0].tolist() for region in frame.ignore_regions],
            "ignore_regions_y": [region[:, 1].tolist() for region in frame.ignore_regions],
        }
        if clip.width is not None and clip.height is not None:
            record.update(width=clip.width, height=clip.height)
        yield record


def _annotation_records(clip: Labels) -> Iterable[dict[str, Any]]:
    for frame in clip.frames:
        for index, person in enumerate(frame.people):
            record: dict[str, Any] = {
                "id": frame.image_id * 100 + index,
                "image_id": frame.image_id,
                "track_id": person.track_id,
                "category_id": 1,
                "keypoints": person.keypoints.flatten().tolist() if person.annotated.any() else [],
                "scores": [] if person.scores is None else person.scores.tolist(),
                "bbox": list(person.box),
                "area": person.box[2] * person.box[3],
                "iscrowd": 0,
            }
            if person.head_box is not None:
                record["bbox_head"] = list(person.head_box)
            yield record
