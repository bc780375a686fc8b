"""The figures' skeleton: a kinematic tree in three dimensions, posed by joint angles, at all moments of a clip at once.

Body coordinates: x to the person's left, y up, z forward, in body heights. Camera coordinates: x right, y down, z away
from the camera. Angles are radians, arrays over time [T].
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from posewarper_models.skeleton import JOINTS, NUM_JOINTS

Array = NDArray[np.float64]

# Points of the tree beside the 17 joints, which are only drawn.
EXTRA_POINTS = ("pelvis", "chest", "head", "left_hand", "right_hand", "left_toe", "right_toe")
POINT = {name: index for index, name in enumerate((*JOINTS, *EXTRA_POINTS))}

SIDES = (("left", 1.0), ("right", -1.0))


@dataclass(frozen=True)
class Build:
    """Lengths of a body, in body heights. The defaults are the average adult's."""

    shank: float = 0.245
    thigh: float = 0.245
    ankle: float = 0.04  # above the ground
    trunk: float = 0.30  # pelvis to the middle between the shoulders
    neck: float = 0.04  # from there to head_bottom
    head: float = 0.13  # head_bottom to head_top
    upper_arm: float = 0.17
    forearm: float = 0.15
    hand: float = 0.055
    foot: float = 0.09
    hips: float = 0.055  # half of the distance
    shoulders: float = 0.115  # half of the distance

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Build:
        """A body whose lengths differ from the average by up to 12 %."""
        return cls(**{field.name: getattr(cls, field.name) * rng.uniform(0.88, 1.12) for field in fields(cls)})


@dataclass(frozen=True)
class LimbAngles:
    """Angles of the arm and the leg of one side, each [T]."""

    hip_flexion: Array  # thigh forward
    hip_abduction: Array  # thigh outward
    knee: Array  # flexion, 0 is straight
    shoulder_flexion: Array  # upper arm forward
    shoulder_abduction: Array  # upper arm outward; pi is straight up
    elbow: Array  # flexion, 0 is straight
    forearm_lift: Array  # where the elbow bends to: 0 forward, pi/2 up


@dataclass(frozen=True)
class Motion:
    """Everything that moves, each [T]."""

    left: LimbAngles
    right: LimbAngles
    heading: Array  # 0 faces the camera, pi/2 the right of the image
    lean: Array  # trunk forward
    bend: Array  # trunk to the person's left
    twist: Array  # shoulders against the hips
    nod: Array  # head down
    look: Array  # head to the person's left
    x: Array  # on the ground, body heights, camera coordinates
    z: Array


def _vector(x: Array, y: Array, z: Array) -> Array:
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1)


def _about_x(points: Array, angle: Array) -> Array:
    """Turns [T, ..., 3] from y to z."""
    return _rotated(points, angle, 1, 2)


def _about_y(points: Array, angle: Array) -> Array:
    """Turns [T, ..., 3] from z to x."""
    return _rotated(points, angle, 2, 0)


def _about_z(points: Array, angle: Array) -> Array:
    """Turns [T, ..., 3] from y to x."""
    return _rotated(points, angle, 1, 0)


def _rotated(points: Array, angle: Array, start: int, end: int) -> Array:
    angle = angle.reshape(-1, *(1,) * (points.ndim - 2))
    sine, cosine, turned = np.sin(angle), np.cos(angle), points.copy()
    turned[..., start] = cosine * points[..., start] - sine * points[..., end]
    turned[..., end] = sine * points[..., start] + cosine * points[..., end]
    return turned


def _limb_direction(flexion: Array, abduction: Array, side: float) -> Array:
    """Where a limb that hangs down points to once it is flexed and abducted, [T, 3]."""
    return _vector(side * np.sin(abduction), -np.cos(abduction) * np.cos(flexion), np.cos(abduction) * np.sin(flexion))


def _leg(build: Build, angles: LimbAngles, side: float) -> dict[str, Array]:
    zero = np.zeros_like(angles.knee)
    hip = _vector(zero + side * build.hips, zero, zero)
    knee = hip + build.thigh * _limb_direction(angles.hip_flexion, angles.hip_abduction, side)
    shank_angle = angles.hip_flexion - angles.knee
    ankle = knee + build.shank * _limb_direction(shank_angle, angles.hip_abduction, side)
    # The foot stands level under an upright shank and tips with it.
    toe = ankle + build.foot * _vector(
        zero + side * 0.25, -0.35 + 0.6 * np.minimum(np.sin(shank_angle), 0.5), np.cos(shank_angle)
    )
    return {"hip": hip, "knee": knee, "ankle": ankle, "toe": toe}


def _arm(build: Build, angles: LimbAngles, side: float) -> dict[str, Array]:
    zero = np.zeros_like(angles.elbow)
    shoulder = _vector(zero + side * build.shoulders, zero + build.trunk - 0.015, zero)
    upper = _limb_direction(angles.shoulder_flexion, angles.shoulder_abduction, side)
    towards = _vector(-0.25 * side + zero, np.sin(angles.forearm_lift), np.cos(angles.forearm_lift))
    towards = towards - (towards * upper).sum(-1, keepdims=True) * upper
    towards /= np.maximum(np.linalg.norm(towards, axis=-1, keepdims=True), 1e-6)
    elbow = shoulder + build.upper_arm * upper
    lower = np.cos(angles.elbow)[:, None] * upper + np.sin(angles.elbow)[:, None] * towards
    wrist = elbow + build.forearm * lower
    return {"shoulder": shoulder, "elbow": elbow, "wrist": wrist, "hand": wrist + build.hand * lower}


def _head(build: Build, motion: Motion) -> dict[str, Array]:
    """The head about the top of the neck."""
    local = {
        "head_bottom": (0, 0, 0),
        "head": (0, 0.48 * build.head, 0.015),
        "head_top": (0, build.head, 0),
        "nose": (0, 0.42 * build.head, 0.075),
        "left_ear": (0.05, 0.45 * build.head, 0.005),
        "right_ear": (-0.05, 0.45 * build.head, 0.005),
    }
    base = np.array([0, build.trunk + build.neck, 0.01])
    return {
        name: base + _about_y(_about_x(np.tile(point, (len(motion.nod), 1)).astype(float), motion.nod), motion.look)
        for name, point in local.items()
    }


def posed(build: Build, motion: Motion) -> Array:
    """All points of the tree in camera coordinates [T, P, 3]; the floor is y = 0, and y points down.

    The lower foot stands on the floor.
    """
    still = np.zeros((len(motion.heading), 3))
    lower: dict[str, Array] = {"pelvis": still}
    upper: dict[str, Array] = {"chest": still + np.array([0, build.trunk, 0]), **_head(build, motion)}
    for name, side in SIDES:
        angles = motion.left if side > 0 else motion.right
        lower.update({f"{name}_{part}": point for part, point in _leg(build, angles, side).items()})
        upper.update({f"{name}_{part}": point for part, point in _arm(build, angles, side).items()})
    points = np.zeros((len(still), len(POINT), 3))
    for name, point in upper.items():
        turned = _about_y(point, motion.twist)
        points[:, POINT[name]] = _about_z(_about_x(turned, motion.lean), motion.bend)
    for name, point in lower.items():
        points[:, POINT[name]] = point
    ankles = points[:, [POINT["left_ankle"], POINT["right_ankle"]], 1]
    points[..., 1] += build.ankle - ankles.min(axis=1, keepdims=True)
    points = _about_y(points, motion.heading)
    place = _vector(motion.x, np.zeros_like(motion.x), motion.z)
    return points * (1, -1, -1) + place[:, None]


assert tuple(POINT)[:NUM_JOINTS] == JOINTS
