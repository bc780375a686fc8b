"""Long inference that can be stopped: what was found so far is kept as labels, and is not computed again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

from posewarper_models.data.annotations import AnnotationError, Labels, Person
from posewarper_models.data.posetrack import read_posetrack, write_posetrack

Found = Iterator[tuple[int, list[Person]]]  # frame by frame
EVERY = 25  # frames between two writings


def resumable(path: Path, labels: Labels, find: Callable[[Collection[int]], Found]) -> Found:
    """What was found in the frames of a clip: before, as ``path`` says, then now.

    Args:
        path: labels of the frames that are done. Is written every so often, and removed once all is found.
        labels: of the clip; which frames there are.
        find: gives what is found in all frames but those that are done.

    Yields:
        A frame's index and its people.

    Raises:
        AnnotationError: the file belongs to other frames.
    """
    done = _done(path, labels)
    yield from done.items()
    try:
        for count, (index, people) in enumerate(find(tuple(done)), start=1):
            done[index] = people
            if count % EVERY == 0:
                _keep(path, labels, done)
            yield index, people
    except BaseException:
        _keep(path, labels, done)
        raise
    path.unlink(missing_ok=True)


def _done(path: Path, labels: Labels) -> dict[int, list[Person]]:
    if not path.exists():
        return {}
    (there,) = read_posetrack(path)
    if [frame.image_id for frame in there.frames] != [frame.image_id for frame in labels.frames]:
        raise AnnotationError(f"{path}: belongs to other frames than those of clip {labels.clip}; remove it")
    return {index: list(there.frames[index].people) for index in there.labelled}


def _keep(path: Path, labels: Labels, done: dict[int, list[Person]]) -> None:
    frames = (
        replace(frame, labelled=index in done, people=tuple(done.get(index, ())))
        for index, frame in enumerate(labels.frames)
    )
    write_posetrack([replace(labels, frames=tuple(frames), source="partial results")], path)
