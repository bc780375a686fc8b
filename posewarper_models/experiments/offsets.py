"""Section 4.5: what the offsets mean. A linear map takes them to the motion of a joint, and is held against flow.

For frames A and B the network predicts the offsets that bring B's heatmap to A. They are read at every joint of A. A
linear regression for each joint, fitted on videos of its own, predicts from that joint's own offsets where it is in B.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from posewarper_models.colour_wheel import coloured, draw_wheel
from posewarper_models.data.annotations import Array, Person
from posewarper_models.data.crops import STRIDE, Crop, crop_around
from posewarper_models.experiments.comparison import DISTANCES, Task
from posewarper_models.experiments.flows import tuned
from posewarper_models.experiments.results import Result
from posewarper_models.experiments.tables import Page, table
from posewarper_models.experiments.tallies import Interval, Ratio
from posewarper_models.experiments.workspace import Workspace
from posewarper_models.flow import Field, moved
from posewarper_models.inference import crops
from posewarper_models.network import PoseWarper
from posewarper_models.propagate import REACH, assignments
from posewarper_models.skeleton import EVALUATED_JOINTS, JOINT, NUM_JOINTS
from posewarper_models.video import Image

PENALTIES = (1e-3, 1e-1, 1e1, 1e3)  # of the ridge regression; chosen on half of the tuning videos
METHODS = {
    "still": "no motion",
    "farneback": "Farneback, direct",
    "farneback-linear": "linear in Farneback's flow",
    "offsets": "linear in the offsets",
}
FLOWS = ("farneback", "farneback-linear")  # what the offsets are held against
SHOWN_JOINTS = ("left_wrist", "right_ankle")


@dataclass(frozen=True)
class Joints:
    """Joints in pairs of frames: what is known of their motion. Lengths are pixels of the frame."""

    joint: np.ndarray[Any, np.dtype[np.int64]]  # [N]
    features: Array  # [N, F], what its motion is predicted from: its own 18 D offsets, heatmap pixels
    motion: Array  # [N, 2], (dx, dy) from A to B, heatmap pixels of the crop
    scale: Array  # [N], pixels of the frame a heatmap pixel
    flow: Array  # [N, 2], Farneback's motion, heatmap pixels of the crop
    distance: np.ndarray[Any, np.dtype[np.int64]]  # [N], frames between A and B
    video: np.ndarray[Any, np.dtype[np.int64]]  # [N]


@dataclass(frozen=True)
class Regression:
    """Of each joint: motion = features @ weights + bias."""

    weights: Array  # [J, F, 2]
    bias: Array  # [J, 2]
    penalty: float

    def motion(self, joints: Joints) -> Array:
        """[N, 2], heatmap pixels."""
        own = self.weights[joints.joint]
        return np.asarray(np.einsum("nf,nfd->nd", joints.features, own) + self.bias[joints.joint])


def measure(space: Workspace) -> dict[str, Any]:
    """End-point errors on the test videos at the main regime, and a picture of the fields."""
    model = space.posewarper()
    flow = tuned(space, space.study.main, "farneback", False).flow
    tune, tasks = space.tasks("tune"), space.tasks("test")
    known, joints = collect(model, tune, flow), collect(model, tasks, flow)
    # The control has the same regression and the same labels as the offsets: shrinking an estimate helps it, too.
    by_offsets, by_farneback = fit(known), fit(with_flow_as_features(known))
    predicted = {
        "still": np.zeros_like(joints.motion),
        "farneback": joints.flow,
        "farneback-linear": by_farneback.motion(with_flow_as_features(joints)),
        "offsets": by_offsets.motion(joints),
    }
    space.pictures.mkdir(parents=True, exist_ok=True)
    fields_of(model, by_offsets, flow, tasks).savefig(space.pictures / picture_of(space.seed), dpi=110)
    return {
        "videos": [task.clip.id for task in tasks],
        "pixels": {name: _sums(joints, motion, len(tasks)) for name, motion in predicted.items()},
        "explained": {name: _explained(joints, motion) for name, motion in predicted.items()},
        "penalties": {"farneback-linear": by_farneback.penalty, "offsets": by_offsets.penalty},
    }


def with_flow_as_features(joints: Joints) -> Joints:
    """The same joints, to predict from Farneback's flow where the joint is."""
    return replace(joints, features=joints.flow)


def collect(model: PoseWarper, tasks: Sequence[Task], flow: Any) -> Joints:
    """All comparable joints of all pairs of a labelled frame and one near it."""
    rows = [row for number, task in enumerate(tasks) for row in _of_task(model, task, flow, number)]
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    return Joints(*columns)


def _of_task(model: PoseWarper, task: Task, flow: Any, number: int) -> Iterator[tuple[Any, ...]]:
    for source, target, people in task.moves():
        if people:
            field = flow(task.clip.frames[source], task.clip.frames[target])
        for known, person in people:
            found = _of_person(model, task, source, target, known, person, field)
            count = len(found[0])
            yield (*found, np.full(count, abs(target - source)), np.full(count, number))


def _of_person(
    model: PoseWarper, task: Task, source: int, target: int, known: Person, person: Person, field: Field
) -> tuple[Any, ...]:
    crop = crop_around(known.box, model.image_size).heatmap
    joints = np.array([joint for joint in EVALUATED_JOINTS if person.annotated[joint]], np.int64)
    before, after = known.keypoints[joints, :2], person.keypoints[joints, :2]
    at = crop.from_frame(before)
    offsets = predicted_offsets(model, task, source, target, known)
    features = _read(offsets, at)[joints, np.arange(len(joints))]
    flow = crop.from_frame(moved(before, field)) - at
    return joints, features, crop.from_frame(after) - at, np.full(len(joints), _pixels(crop)), flow


def _pixels(crop: Crop) -> float:
    """Pixels of the frame a pixel of the heatmap."""
    return float(1 / np.sqrt(abs(np.linalg.det(crop.matrix[:, :2]))))


@torch.inference_mode()
def predicted_offsets(model: PoseWarper, task: Task, source: int, target: int, person: Person) -> Tensor:
    """[J, 18 D, h, w], the offsets that bring the target's heatmap to the source, joint by joint, heatmap pixels."""
    crop = crop_around(person.box, model.image_size)
    f_a, f_b = model.heatmaps(crops(model, task.clip.frames, [source, target], crop)).split(1)
    every = [offsets[0].unflatten(0, (NUM_JOINTS, -1)) for offsets in model.warping.offsets(f_a - f_b)]
    return torch.cat(every, dim=1).float().cpu()


def _read(offsets: Tensor, points: Array) -> Array:
    """[J, P, 18 D], offsets [J, 18 D, h, w] at points [P, 2] of the heatmap, bilinear."""
    height, width = offsets.shape[-2:]
    size = torch.tensor([width - 1, height - 1])
    grid = (2 * torch.from_numpy(points).float() / size - 1).view(1, -1, 1, 2).expand(len(offsets), -1, -1, -1)
    found = F.grid_sample(offsets, grid, align_corners=True, padding_mode="border")
    return found[..., 0].transpose(1, 2).double().numpy()


def fit(joints: Joints) -> Regression:
    """A ridge regression for each joint; the penalty is the one that does best on videos that were not fitted."""
    odd = joints.video % 2 == 1
    if odd.any() and not odd.all():
        errors = [
            np.linalg.norm(_ridge(joints, ~odd, penalty).motion(joints) - joints.motion, axis=1)[odd].mean()
            for penalty in PENALTIES
        ]
        best = PENALTIES[int(np.argmin(errors))]
    else:
        best = PENALTIES[-1]  # a single video: nothing to choose by
    return _ridge(joints, np.ones(len(odd), bool), best)


def _ridge(joints: Joints, used: np.ndarray[Any, np.dtype[np.bool_]], penalty: float) -> Regression:
    count = joints.features.shape[1]
    weights, bias = np.zeros((NUM_JOINTS, count, 2)), np.zeros((NUM_JOINTS, 2))
    for joint in np.unique(joints.joint[used]):
        rows = used & (joints.joint == joint)
        x, y = joints.features[rows], joints.motion[rows]
        x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
        x = x - x_mean
        covariance = x.T @ x + penalty * np.eye(count)
        weights[joint] = np.linalg.solve(covariance, x.T @ (y - y_mean))
        bias[joint] = y_mean - x_mean @ weights[joint]
    return Regression(weights, bias, penalty)


def _sums(joints: Joints, motion: Array, videos: int) -> dict[str, list[list[float]]]:
    """End-point errors in pixels of the frame: sums and counts, by video and distance."""
    errors = np.linalg.norm(motion - joints.motion, axis=1) * joints.scale
    total, count = np.zeros((videos, REACH)), np.zeros((videos, REACH))
    np.add.at(total, (joints.video, joints.distance - 1), errors)
    np.add.at(count, (joints.video, joints.distance - 1), 1)
    return {"total": total.round(4).tolist(), "count": count.tolist()}


def _explained(joints: Joints, motion: Array) -> float:
    """The share of the motion's variance that is predicted."""
    rest = np.square(motion - joints.motion).sum()
    return round(float(1 - rest / np.square(joints.motion - joints.motion.mean(axis=0)).sum()), 4)


def picture_of(seed: int) -> str:
    """The file name of a run's picture."""
    return f"offsets-seed{seed}.png"


def fields_of(model: PoseWarper, regression: Regression, flow: Any, tasks: Sequence[Task]) -> Figure:
    """Figure 5 for the first person whose motion is known over the longest distance."""
    task, source, target, person = _first_pair(tasks)
    crop = crop_around(person.box, model.image_size)
    frames = [crop.pixels(task.clip.frames[index]) for index in (source, target)]
    offsets = predicted_offsets(model, task, source, target, person)  # [J, 18 D, h, w]
    farneback = np.moveaxis(flow(*frames), 2, 0)[::-1] / STRIDE  # [2, h, w], (dy, dx) in heatmap pixels
    with torch.inference_mode():
        nearest = model.heatmaps(crops(model, task.clip.frames, [source], crop))[0].argmax(dim=0).cpu().numpy()
    linear = _everywhere(regression, offsets, nearest)
    fields = {
        **{f"an offset of {name}": offsets[JOINT[name], :2].double().numpy() for name in SHOWN_JOINTS},
        "Farneback": farneback,
        "linear in the offsets": linear,
    }
    longest = max(float(np.quantile(np.hypot(*linear), 0.99)), 1.0)
    pictures: dict[str, Image | Array] = {"frame A": frames[0], "frame B": frames[1]}
    pictures |= {title: coloured(field, longest) for title, field in fields.items()}
    figure = Figure(figsize=(2.2 * (len(pictures) + 2), 3.2), layout="constrained")
    *cells, magnitude, wheel = figure.subplots(1, len(pictures) + 2)
    for cell, (title, image) in zip(cells, pictures.items(), strict=True):
        cell.imshow(image)
        cell.set_title(title, fontsize=9)
    magnitude.imshow(offsets.unflatten(1, (-1, 2)).norm(dim=2).mean(dim=(0, 1)).numpy(), cmap="magma")
    magnitude.set_title("mean offset", fontsize=9)
    for cell in (*cells, magnitude):
        cell.set(xticks=[], yticks=[])
    draw_wheel(wheel, longest)
    return figure


def _everywhere(regression: Regression, offsets: Tensor, nearest: np.ndarray[Any, np.dtype[np.int64]]) -> Array:
    """[2, h, w], (dy, dx): at each pixel the motion by the joint whose heatmap is highest there, ``nearest`` [h, w]."""
    motion = (
        np.einsum("jfhw,jfd->jdhw", offsets.double().numpy(), regression.weights) + regression.bias[:, :, None, None]
    )
    return np.asarray(np.take_along_axis(motion, nearest[None, None], axis=0)[0, ::-1])


def _first_pair(tasks: Sequence[Task]) -> tuple[Task, int, int, Person]:
    for task in tasks:
        for source, targets in assignments(task.clip.labels, REACH).items():
            for target in reversed(targets):
                for person in task.truth.frames[target].people:
                    known = task.clip.labels.frames[source].person(person.track_id)
                    if known is not None:
                        return task, source, target, known
    raise ValueError("tasks: no person is in a labelled frame and in one near it")


def section(results: Sequence[Result], page: Page) -> str:
    """Markdown of all seeds, with a figure."""
    rows = []
    for method, name in METHODS.items():
        every = _ratios(results, method)
        by_distance = [_in_pixels(page.interval(_ratios(results, method, number))) for number in range(len(DISTANCES))]
        less = [
            "" if method == flow else _in_pixels(page.interval(every, _ratios(results, flow)), "+") for flow in FLOWS
        ]
        explained = np.mean([result.measured["explained"][method] for result in results])
        rows.append([name, *by_distance, _in_pixels(page.interval(every)), *less, f"{100 * explained:.1f}"])
    header = ["", *DISTANCES, "all", *(f"less {METHODS[flow]}" for flow in FLOWS), "variance explained, %"]
    text = "End-point error of the joints' displacement from frame A to frame B, pixels of the frame:"
    figure = page.shown(_figure(results), "offsets", "End-point error by distance")
    picture = f"{page.link}/{picture_of(results[0].seed)}"
    fields = f"![Offsets, Farneback's flow, and the motion that is linear in the offsets]({picture})"
    return "\n\n".join([figure, text, table(header, rows), fields])


def _ratios(results: Sequence[Result], method: str, distance: int | None = None) -> list[Ratio]:
    found = []
    for result in results:
        sums = result.measured["pixels"][method]
        columns = slice(None) if distance is None else [distance]
        found.append(Ratio(*(np.array(sums[name])[:, columns].sum(axis=1) for name in ("total", "count"))))
    return found


def _in_pixels(found: Interval, sign: str = "") -> str:
    if np.isnan(found.value):
        return "-"
    return f"{found.value:{sign}.2f} [{found.low:{sign}.2f}, {found.high:{sign}.2f}]"


def _figure(results: Sequence[Result]) -> Figure:
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    cell = figure.subplots()
    for method, name in METHODS.items():
        values = [
            np.mean([ratio.value for ratio in _ratios(results, method, number)]) for number in range(len(DISTANCES))
        ]
        cell.plot(DISTANCES, values, marker="o", label=name)
    cell.set(ylabel="end-point error, pixels")
    cell.legend(fontsize=8)
    cell.grid(alpha=0.3)
    return figure
