"""Average precision as poseval counts it, and PCK, of predicted poses.

Average precision (Pishchulin et al., CVPR 2016; https://github.com/leonid-pishchulin/poseval): a joint is right within
half of the ground truth's head size, which is 0.6 times its head box's diagonal. In each frame every predicted person
keeps the annotated person with whom the largest share of joints is right, every annotated person the best of those
that kept it; joints of all others are false positives. Each joint's detections, sorted by score over all frames, give a
curve of precision over recall; its area is the joint's AP. Frames without annotated people are left out, with what is
predicted in them; so are joints in regions to ignore.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from posewarper_models.data.annotations import AnnotationError, Array, Box, FrameLabels, Labels, Person
from posewarper_models.skeleton import EVALUATED_JOINTS, JOINT, JOINT_GROUPS, NUM_JOINTS

Flags = NDArray[np.bool_]

HEAD_SHARE = 0.6  # head size of a head box's diagonal
AP_DISTANCE = 0.5  # head sizes within which a joint is right
CERTAIN = np.inf  # the score of joints without one: labels that were given

HeadMode = Literal["annotated", "shoulders", "nose"]


def head_size(head_box: Box) -> float:
    """Of a head box, pixels: what distances are measured in.

    >>> head_size((10.0, 20.0, 30.0, 40.0))
    30.0
    """
    return float(HEAD_SHARE * np.hypot(*head_box[2:]))


def _neck_between_shoulders(pose: Array) -> Array:
    pose = pose.copy()
    pose[JOINT["head_bottom"]] = (pose[JOINT["left_shoulder"]] + pose[JOINT["right_shoulder"]]) / 2
    return pose


def _head_beyond_nose(pose: Array) -> Array:
    pose = _neck_between_shoulders(pose)
    score = pose[JOINT["head_bottom"], 2]
    pose[JOINT["head_top"], :2] = 2 * pose[JOINT["nose"], :2] - pose[JOINT["head_bottom"], :2]
    pose[JOINT["head_top"], 2] = score
    return pose


# How a predicted pose [J, (x, y, score)] gets the two joints of the head that codes derive in different ways.
HEAD_MODES: dict[HeadMode, Callable[[Array], Array]] = {
    "annotated": lambda pose: pose,  # both as the network predicts them
    "shoulders": _neck_between_shoulders,  # the neck between the shoulders, as in PoseWarper's code
    "nose": _head_beyond_nose,  # and the top of the head as far beyond the nose: networks trained on COCO
}


@dataclass(frozen=True)
class Poses:
    """The people of one frame as arrays."""

    positions: Array  # [P, J, 2]
    present: Flags  # [P, J]
    scores: Array  # [P, J]
    head_sizes: Array  # [P], pixels; NaN where there is no head box

    def kept(self, joints: Flags) -> Poses:
        """Without the joints [P, J] that are False, and without the people who then have none."""
        present = self.present & joints
        people = present.any(axis=1)
        return Poses(self.positions[people], present[people], self.scores[people], self.head_sizes[people])


def _poses(people: Sequence[Person], mode: HeadMode) -> Poses:
    """Joints that are not evaluated are left out."""
    count = len(people)
    positions, scores = np.zeros((count, NUM_JOINTS, 2)), np.zeros((count, NUM_JOINTS))
    present, head_sizes = np.zeros((count, NUM_JOINTS), bool), np.full(count, np.nan)
    for index, person in enumerate(people):
        pose = np.concatenate([person.keypoints[:, :2], np.zeros((NUM_JOINTS, 1))], axis=1)
        pose[:, 2] = CERTAIN if person.scores is None else person.scores
        # What is derived from joints that are not there is not there.
        marked = np.where(person.annotated[:, None], pose, np.nan)
        marked = HEAD_MODES[mode](marked)
        there = np.isfinite(marked[:, 0] + marked[:, 1])
        present[index, list(EVALUATED_JOINTS)] = there[list(EVALUATED_JOINTS)]
        positions[index], scores[index] = np.nan_to_num(marked[:, :2]), np.where(there, marked[:, 2], 0.0)
        if person.head_box is not None:
            head_sizes[index] = head_size(person.head_box)
    return Poses(positions, present, scores, head_sizes)


@dataclass(frozen=True)
class _FramePair:
    clip: str
    frame: int
    truth: FrameLabels
    prediction: FrameLabels

    @property
    def name(self) -> str:
        return f"clip {self.clip}, frame {self.frame} ({self.truth.file_name})"


def _paired(truth: Sequence[Labels], predictions: Sequence[Labels]) -> list[_FramePair]:
    """Each labelled frame that has people with its prediction: the frame of the same name.

    Raises:
        AnnotationError: the files do not belong together: clips or versions differ, or a frame is not predicted.
    """
    predicted = {labels.clip: labels for labels in predictions}
    known = {labels.clip for labels in truth}
    foreign = sorted(set(predicted) - known)
    if foreign:
        raise AnnotationError(
            f"predictions: clip {foreign[0]} is not in the ground truth ({', '.join(sorted(known)[:3])})"
        )
    pairs = []
    for labels in truth:
        if labels.clip not in predicted:
            raise AnnotationError(f"predictions: clip {labels.clip} of the ground truth is missing")
        pairs += _paired_clip(labels, predicted[labels.clip])
    if not pairs:
        raise AnnotationError("ground truth: no labelled frame with people")
    return pairs


def _paired_clip(truth: Labels, prediction: Labels) -> list[_FramePair]:
    _check_versions(truth, prediction, "predictions")
    predicted = {frame.name: frame for frame in prediction.frames if frame.labelled}
    pairs = []
    for index in truth.labelled:
        frame = truth.frames[index]
        if frame.people:
            if frame.name not in predicted:
                raise AnnotationError(f"predictions: clip {truth.clip}: none for frame {index} ({frame.file_name})")
            pairs.append(_FramePair(truth.clip, index, frame, predicted[frame.name]))
    return pairs


def _check_versions(truth: Labels, other: Labels, name: str) -> None:
    if truth.version != other.version:
        raise AnnotationError(
            f"clip {truth.clip}: the ground truth is {truth.version}, the {name} are {other.version}: "
            "their frames are counted from different numbers"
        )


def without_given(truth: Sequence[Labels], given: Sequence[Labels]) -> list[Labels]:
    """The ground truth less the frames that are labelled in ``given``: those were not predicted.

    Frames are the same where their images' names are: ``given`` may list any of them.

    Raises:
        AnnotationError: a clip is not in the ground truth, or of another version there.
    """
    sparse = {labels.clip: labels for labels in given}
    foreign = sorted(set(sparse) - {labels.clip for labels in truth})
    if foreign:
        raise AnnotationError(f"given labels: clip {foreign[0]} is not in the ground truth")
    return [_without(labels, sparse[labels.clip]) if labels.clip in sparse else labels for labels in truth]


def _without(truth: Labels, given: Labels) -> Labels:
    _check_versions(truth, given, "given labels")
    left_out = {given.frames[index].name for index in given.labelled}
    return truth.keep_labelled([index for index in truth.labelled if truth.frames[index].name not in left_out])


def _with_head_sizes(pair: _FramePair) -> Poses:
    poses = _poses(pair.truth.people, "annotated")
    if not (poses.head_sizes > 0).all():
        raise AnnotationError(f"ground truth: {pair.name}: a person without a head box: distances have no scale")
    return poses


def _outside_ignored(poses: Poses, regions: Sequence[Array]) -> Poses:
    if not regions:
        return poses
    kept = np.ones(poses.present.shape, bool)
    contours = [region.astype(np.float32) for region in regions]
    for person, joint in zip(*poses.present.nonzero(), strict=True):
        x, y = poses.positions[person, joint]
        kept[person, joint] = not any(
            cv2.pointPolygonTest(contour, (float(x), float(y)), False) > 0 for contour in contours
        )
    return poses.kept(kept)


@dataclass
class _Detections:
    """Of every joint: scores, whether they are right, and how many there are to find."""

    scores: list[list[float]] = field(default_factory=lambda: [[] for _ in range(NUM_JOINTS)])
    right: list[list[bool]] = field(default_factory=lambda: [[] for _ in range(NUM_JOINTS)])
    to_find: NDArray[np.int64] = field(default_factory=lambda: np.zeros(NUM_JOINTS, np.int64))

    def add(self, truth: Poses, predicted: Poses) -> None:
        self.to_find += truth.present.sum(axis=0)
        right = _right_joints(truth, predicted)
        for person, joint in zip(*predicted.present.nonzero(), strict=True):
            self.scores[joint].append(float(predicted.scores[person, joint]))
            self.right[joint].append(bool(right[person, joint]))


def _near(truth: Poses, predicted: Poses) -> Flags:
    """[P, T, J], the joints of predicted people that are right for each of the annotated ones."""
    gaps = np.linalg.norm(predicted.positions[:, None] - truth.positions[None], axis=3)
    near = gaps / truth.head_sizes[None, :, None] <= AP_DISTANCE
    return np.asarray(near & predicted.present[:, None] & truth.present[None])


def _right_joints(truth: Poses, predicted: Poses) -> Flags:
    """The joints [P, J] of predicted people that are right, by poseval's assignment of people."""
    right = np.zeros(predicted.present.shape, bool)
    if not len(truth.present) or not len(predicted.present):
        return right
    near = _near(truth, predicted)
    share = near.sum(axis=2) / np.maximum(truth.present.sum(axis=1), 1)  # [P, T]
    best_truth = share.argmax(axis=1)
    kept = np.where(np.arange(share.shape[1]) == best_truth[:, None], share, 0.0)
    best_person = kept.argmax(axis=0)
    for other, person in enumerate(best_person):
        if kept[person, other] > 0:
            right[person] = near[person, other]
    return right


def average_precision(scores: Sequence[float], right: Sequence[bool], to_find: int) -> float:
    """The area under the curve of precision over recall, precision made monotonous; of equal scores the later first.

    Args:
        scores: of the detections.
        right: whether each is right.
        to_find: how many there are to find.

    Returns:
        0 to 1; NaN where there is nothing to find.

    >>> average_precision([0.9, 0.8, 0.7], [True, False, True], 2)
    0.8333333333333333
    """
    if to_find == 0:
        return float("nan")
    order = np.argsort(np.asarray(scores, float), kind="stable")[::-1]
    hits = np.cumsum(np.asarray(right, bool)[order])
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0.0], hits / to_find])
    return float((np.diff(recall) * precision).sum())


@dataclass(frozen=True)
class JointErrors:
    """Distances between the annotated joints and the predicted joints of the same track, one row a person and frame."""

    clips: tuple[str, ...]  # [N]
    frames: tuple[int, ...]  # [N]
    tracks: tuple[int, ...]  # [N]
    distances: Array  # [N, J], head sizes; infinite where nothing is predicted, NaN where nothing is annotated
    visible: Flags  # [N, J]

    def pck(self, threshold: float) -> Array:
        """The share [J] of annotated joints within ``threshold`` head sizes; NaN for joints never annotated."""
        annotated = ~np.isnan(self.distances)
        right = (self.distances <= threshold).sum(axis=0)
        with np.errstate(invalid="ignore"):
            return np.asarray(right / annotated.sum(axis=0))


def joint_errors(truth: Sequence[Labels], predictions: Sequence[Labels], head: HeadMode = "annotated") -> JointErrors:
    """How far predicted joints are from the ground truth's; people correspond by track id.

    Joints in regions to ignore, and frames without annotated people, are left out as in :func:`evaluate`.

    Raises:
        AnnotationError: as :func:`evaluate`.
    """
    clips, frames, tracks, distances, visible = [], [], [], [], []
    for pair in _paired(truth, predictions):
        known = _with_head_sizes(pair)
        for index, person in enumerate(pair.truth.people):
            one = Poses(*(array[index : index + 1] for array in vars(known).values()))
            one = _outside_ignored(one, pair.truth.ignore_regions)
            if not len(one.present):
                continue
            guess = pair.prediction.person(person.track_id)
            found = _poses([guess] if guess is not None else [], head)
            gap = np.full(NUM_JOINTS, np.inf)
            for there, position in zip(found.present, found.positions, strict=True):
                gap[there] = np.linalg.norm(position - one.positions[0], axis=1)[there]
            clips.append(pair.clip)
            frames.append(pair.frame)
            tracks.append(person.track_id)
            distances.append(np.where(one.present[0], gap / one.head_sizes[0], np.nan))
            visible.append(person.visible)
    return JointErrors(
        tuple(clips),
        tuple(frames),
        tuple(tracks),
        np.reshape(distances, (-1, NUM_JOINTS)),
        np.reshape(visible, (-1, NUM_JOINTS)),
    )


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and on what. All in percent; NaN for joints that are not annotated."""

    ap: Array  # [J]
    precision: Array  # [J], of all detections
    recall: Array  # [J]
    pck: dict[float, Array] | None  # by head sizes, each [J]; None where track ids are not the ground truth's
    no_pck: str | None  # where they are not
    people: int
    frames: int
    head: HeadMode
    boxes: str
    truth: str
    predictions: str

    @property
    def mean_ap(self) -> float:
        """The mean over the 15 evaluated joints."""
        return mean_over_joints(self.ap)

    @property
    def setting(self) -> str:
        """Everything a number depends on."""
        return (
            f"ground truth: {self.truth}; predictions: {self.predictions}; boxes: {self.boxes}; "
            f"head and neck: {self.head}; {self.people} people in {self.frames} frames"
        )


def mean_over_joints(values: Array) -> float:
    """The mean of [J] over the evaluated joints that have a value."""
    return float(np.nanmean(values[list(EVALUATED_JOINTS)]))


def by_group(values: Array) -> dict[str, float]:
    """The columns of the paper's tables: means of [J] over head, shoulders, ..., and over all 15 joints.

    >>> by_group(np.arange(17.0))["Wrist"]
    9.5
    """
    groups = {name: float(np.nanmean(values[list(joints)])) for name, joints in JOINT_GROUPS.items()}
    return {**groups, "Mean": mean_over_joints(values)}


def evaluate(
    truth: Sequence[Labels],
    predictions: Sequence[Labels],
    *,
    head: HeadMode = "annotated",
    boxes: str = "not stated",
    pck_thresholds: Sequence[float] = (0.5, 0.2),
) -> Evaluation:
    """Average precision as poseval counts it, and PCK.

    PCK follows people by their track ids, and is stated only where these can be the ground truth's: no id occurs twice
    in a frame, in every clip one side's ids are among the other's, and of the predicted people there of whom most
    joints are right for somebody, at least half have that one's id. Propagated people keep the ids of the labels,
    aggregated ones those of their boxes; detected people have ids of their own.

    Args:
        truth: the labels of clips; all annotated joints count, hidden ones too, as in poseval.
        predictions: of the same clips. Frames are the same where their images' names are, whatever their ids. Joints
            without scores are certain, as labels that were given are: they rank before all others, and alike.
        head: where the predictions' neck and top of the head come from: ``"annotated"``, both as predicted;
            ``"shoulders"``, the neck between the shoulders, as in PoseWarper's code; ``"nose"``, and the top of the
            head as far beyond the nose, for networks trained on COCO's joints.
        boxes: whose person boxes the predictions were made with; it is stated with the result.
        pck_thresholds: in head sizes.

    Raises:
        AnnotationError: the files do not belong together, a labelled frame has no prediction, or a head box is missing.
    """
    detections, people, pairs = _Detections(), 0, _paired(truth, predictions)
    for pair in pairs:
        regions = pair.truth.ignore_regions
        known = _outside_ignored(_with_head_sizes(pair), regions)
        guessed = _poses(pair.prediction.people, head)
        detections.add(known, _outside_ignored(guessed.kept(guessed.present), regions))
        people += len(known.present)
    right = np.array([sum(joint) for joint in detections.right], float)
    count = np.array([len(joint) for joint in detections.right], float)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = right / count, right / detections.to_find
    ap = [
        average_precision(*joint) for joint in zip(detections.scores, detections.right, detections.to_find, strict=True)
    ]
    no_pck = _unlike_tracks(pairs, head)
    errors = joint_errors(truth, predictions, head) if no_pck is None else None
    return Evaluation(
        ap=100 * np.array(ap),
        precision=100 * precision,
        recall=100 * recall,
        pck=None if errors is None else {threshold: 100 * errors.pck(threshold) for threshold in pck_thresholds},
        no_pck=no_pck,
        people=people,
        frames=len(pairs),
        head=head,
        boxes=boxes,
        truth=_described(truth),
        predictions=_described(predictions),
    )


def _unlike_tracks(pairs: Sequence[_FramePair], head: HeadMode) -> str | None:
    """Where track ids break the rule by which :func:`evaluate` states PCK; None where they keep it."""
    clips: dict[str, list[_FramePair]] = {}
    for pair in pairs:
        clips.setdefault(pair.clip, []).append(pair)
    reasons = (
        _repeated(of_clip) or _of_two_origins(of_clip) or _of_others(of_clip, head) for of_clip in clips.values()
    )
    return next(filter(None, reasons), None)


def _repeated(pairs: Sequence[_FramePair]) -> str | None:
    for pair in pairs:
        for side, frame in (("predictions", pair.prediction), ("ground truth", pair.truth)):
            for track, times in Counter(person.track_id for person in frame.people).items():
                if times > 1:
                    return f"{pair.name}: track id {track} occurs {times} times in the {side}"
    return None


def _of_two_origins(pairs: Sequence[_FramePair]) -> str | None:
    predicted = {person.track_id for pair in pairs for person in pair.prediction.people}
    annotated = {person.track_id for pair in pairs for person in pair.truth.people}
    if predicted <= annotated or annotated <= predicted:
        return None
    mine, theirs = (", ".join(map(str, sorted(ids))) for ids in (predicted, annotated))
    return f"clip {pairs[0].clip}: track ids {mine} in the predictions, {theirs} in the ground truth"


def _of_others(pairs: Sequence[_FramePair], head: HeadMode) -> str | None:
    own = others = 0
    for pair in pairs:
        truth, predicted = _with_head_sizes(pair), _poses(pair.prediction.people, head)
        alike = 2 * _near(truth, predicted).sum(axis=2) > truth.present.sum(axis=1)  # [P, T]
        for person, same in zip(pair.prediction.people, alike, strict=True):
            tracks = {known.track_id for known, match in zip(pair.truth.people, same, strict=True) if match}
            own += person.track_id in tracks
            others += bool(tracks) and person.track_id not in tracks
    if others <= own:
        return None
    return f"clip {pairs[0].clip}: by their joints {others} of {own + others} people have another's track id"


def _described(labels: Sequence[Labels]) -> str:
    return "; ".join(sorted({f"{clip.version}, {clip.source}" for clip in labels}))
