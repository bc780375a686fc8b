"""What figures do: walk, wave and turn, as joint angles over time.

An action's angles are periodic functions of its phase with parameters drawn once; slow irregular motion of every joint
is added, so that no two periods are the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from posewarper_models.data.synthetic.body import Array, Build, LimbAngles, Motion

TAU = 2 * np.pi


def smooth_noise(rng: np.random.Generator, time: Array, amplitude: float, fastest: float = 1.2) -> Array:
    """Irregular motion [T]: five sines of up to ``fastest`` Hz, with the standard deviation ``amplitude``."""
    rates = rng.uniform(0.1, fastest, 5)
    phases = rng.uniform(0, TAU, 5)
    return np.asarray(amplitude * np.sqrt(2 / 5) * np.sin(TAU * rates * time[:, None] + phases).sum(axis=1))


class _Draw:
    """Angles of one figure: each asked for by its mean, with irregular motion on top."""

    def __init__(self, rng: np.random.Generator, time: Array) -> None:
        self.rng, self.time = rng, time

    def around(self, mean: float | Array, wobble: float, low: float = -np.inf, high: float = np.inf) -> Array:
        """The mean with ``wobble`` radians of irregular motion, kept within what the joint can do."""
        return np.clip(mean + smooth_noise(self.rng, self.time, wobble), low, high)

    def limbs(
        self,
        hip: float | Array = 0.0,
        knee: float | Array = 0.08,
        shoulder: float | Array = 0.0,
        abduction: float | Array = 0.12,
        elbow: float | Array = 0.3,
        lift: float | Array = 0.0,
    ) -> LimbAngles:
        """One side of the body."""
        return LimbAngles(
            hip_flexion=self.around(hip, 0.05, -0.6, 1.8),
            hip_abduction=self.around(self.rng.uniform(0.02, 0.12), 0.03, -0.1, 0.9),
            knee=self.around(knee, 0.05, 0.0, 2.2),
            shoulder_flexion=self.around(shoulder, 0.12, -0.9, 2.8),
            shoulder_abduction=self.around(abduction, 0.08, 0.02, 3.0),
            elbow=self.around(elbow, 0.12, 0.02, 2.5),
            forearm_lift=self.around(lift, 0.1),
        )

    def motion(
        self, left: LimbAngles, right: LimbAngles, heading: Array, lean: float = 0.03, twist: Array | float = 0.0
    ) -> Motion:
        """The whole body; it stands still on the ground."""
        nothing = np.zeros_like(self.time)
        return Motion(
            left=left,
            right=right,
            heading=heading,
            lean=self.around(lean, 0.04),
            bend=self.around(0.0, 0.04),
            twist=self.around(twist, 0.06),
            nod=self.around(0.05, 0.1, -0.4, 0.6),
            look=self.around(0.0, 0.3, -1.1, 1.1),
            x=nothing,
            z=nothing,
        )


def walk(rng: np.random.Generator, time: Array, build: Build) -> Motion:
    """Steps along the heading, arms swinging against the legs."""
    draw = _Draw(rng, time)
    rate, stride, swing = rng.uniform(0.7, 1.15), rng.uniform(0.32, 0.55), rng.uniform(0.2, 0.7)
    bent = rng.uniform(0.1, 0.9)
    phase = TAU * (rate * time + rng.uniform())
    sides = []
    for offset in (0.0, np.pi):
        leg = phase + offset
        # The knee bends most while the thigh swings forward, and a little when the foot lands.
        knee = 0.1 + 0.95 * np.maximum(np.cos(leg - 0.25), 0) ** 1.5 + 0.12 * np.maximum(-np.cos(leg - 0.9), 0)
        arm = -swing * np.sin(leg)
        sides.append(draw.limbs(hip=0.08 + stride * np.sin(leg), knee=knee, shoulder=arm, elbow=bent + 0.35 * arm))
    heading = rng.uniform(0, TAU) + smooth_noise(rng, time, 0.25, fastest=0.3)
    motion = draw.motion(sides[0], sides[1], heading, lean=rng.uniform(0.0, 0.15), twist=0.12 * np.sin(phase))
    ground_speed = 4 * (build.thigh + build.shank) * np.sin(stride) * rate  # body heights a second
    step = np.diff(time, prepend=time[0]) * ground_speed
    return _moved(motion, np.cumsum(step * np.sin(heading)), np.cumsum(-step * np.cos(heading)))


def wave(rng: np.random.Generator, time: Array, build: Build) -> Motion:
    """Stands and waves with one arm or with both."""
    draw = _Draw(rng, time)
    rate, reach = rng.uniform(0.7, 1.8), rng.uniform(0.25, 0.75)
    phase = TAU * (rate * time + rng.uniform())
    raised, lifted = rng.uniform(0.9, 2.6), rng.uniform(0.9, 1.9)
    waving = draw.limbs(
        shoulder=rng.uniform(-0.2, 0.5),
        abduction=raised + 0.5 * reach * np.sin(phase),
        elbow=rng.uniform(0.3, 1.3) + reach * np.sin(phase + 0.6),
        lift=lifted,
    )
    if rng.random() < 0.35:
        mirrored = phase + (np.pi if rng.random() < 0.5 else 0)
        other = draw.limbs(
            abduction=raised + 0.5 * reach * np.sin(mirrored), elbow=0.8 + reach * np.sin(mirrored + 0.6), lift=lifted
        )
    else:
        other = draw.limbs(shoulder=rng.uniform(-0.2, 0.6), elbow=rng.uniform(0.1, 1.8))
    sides = (waving, other) if rng.random() < 0.5 else (other, waving)
    heading = rng.normal(0, 0.6) + smooth_noise(rng, time, 0.3, fastest=0.4)
    return draw.motion(*sides, heading)


def turn(rng: np.random.Generator, time: Array, build: Build) -> Motion:
    """Turns about the vertical with small steps, arms half raised."""
    draw = _Draw(rng, time)
    rate = rng.choice([-1, 1]) * rng.uniform(0.8, 2.6)  # radians a second
    phase = TAU * (rng.uniform(0.8, 1.4) * time + rng.uniform())
    sides = []
    for offset in (0.0, np.pi):
        lift = np.maximum(np.sin(phase + offset), 0)
        sides.append(
            draw.limbs(
                hip=0.05 + 0.35 * lift,
                knee=0.08 + 0.6 * lift,
                shoulder=rng.uniform(-0.2, 0.8),
                abduction=rng.uniform(0.15, 1.1),
                elbow=rng.uniform(0.2, 1.6),
            )
        )
    heading = rng.uniform(0, TAU) + rate * time + smooth_noise(rng, time, 0.3, fastest=0.5)
    return draw.motion(sides[0], sides[1], heading, twist=0.2 * np.sin(phase))


def _moved(motion: Motion, x: Array, z: Array) -> Motion:
    return Motion(**{**vars(motion), "x": x, "z": z})


Action = Callable[[np.random.Generator, Array, Build], Motion]
ACTIONS: dict[str, Action] = {"walk": walk, "wave": wave, "turn": turn}
