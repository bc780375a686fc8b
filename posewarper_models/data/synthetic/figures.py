"""One dressed figure: the parts of its body as textured shapes, and how they are drawn.

A part is a tapered cylinder seen from the side. Its texture wraps around it, so that turning brings new texture into
view at one edge and takes it away at the other, as on a real body: nothing that translates image patches follows that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from posewarper_models.data.synthetic import textures
from posewarper_models.data.synthetic.actions import ACTIONS
from posewarper_models.data.synthetic.body import POINT, Array, Build, posed
from posewarper_models.data.synthetic.settings import SceneSettings
from posewarper_models.skeleton import JOINT, NUM_JOINTS
from posewarper_models.video import Image

SHIFT = 4  # OpenCV draws polygons at sixteenths of a pixel
AMBIENT = 0.55  # share of the light that comes from everywhere


@dataclass(frozen=True)
class Part:
    """A piece of the body between two points of the tree; lengths in body heights.

    Its cross-section is an ellipse; half axes at both ends: ``wide`` from side to side, ``deep`` from front to back.
    """

    name: str
    start: int
    end: int
    wide: tuple[float, float]
    deep: tuple[float, float]
    cap: float = 1.0  # roundness of the ends: they reach this many half widths beyond the points
    turns_with: str = "hips"  # what its texture faces with: hips, shoulders or head
    joints: tuple[int, ...] = ()  # what one sees where one sees this part


def _limb(name: str, start: str, end: str, radii: tuple[float, float], turns_with: str, *joints: str) -> Part:
    shown = tuple(JOINT[joint] for joint in joints)
    return Part(name, POINT[start], POINT[end], radii, radii, turns_with=turns_with, joints=shown)


def _side(side: str) -> tuple[Part, ...]:
    def of(joint: str) -> str:
        return f"{side}_{joint}"

    return (
        _limb(of("upper_arm"), of("shoulder"), of("elbow"), (0.036, 0.029), "shoulders", of("shoulder"), of("elbow")),
        _limb(of("forearm"), of("elbow"), of("wrist"), (0.029, 0.021), "shoulders", of("elbow"), of("wrist")),
        _limb(of("hand"), of("wrist"), of("hand"), (0.021, 0.022), "shoulders", of("wrist")),
        _limb(of("thigh"), of("hip"), of("knee"), (0.058, 0.041), "hips", of("hip"), of("knee")),
        _limb(of("shank"), of("knee"), of("ankle"), (0.041, 0.026), "hips", of("knee"), of("ankle")),
        _limb(of("foot"), of("ankle"), of("toe"), (0.027, 0.024), "hips", of("ankle")),
    )


HIPS = (JOINT["left_hip"], JOINT["right_hip"])
SHOULDERS = (JOINT["left_shoulder"], JOINT["right_shoulder"])
FACE = tuple(JOINT[name] for name in ("nose", "head_bottom", "head_top", "left_ear", "right_ear"))
PARTS = (
    Part("pelvis", POINT["pelvis"], POINT["chest"], (0.085, 0.085), (0.066, 0.066), 0.6, "hips", HIPS),
    Part("trunk", POINT["pelvis"], POINT["chest"], (0.088, 0.125), (0.066, 0.07), 0.28, "shoulders", HIPS + SHOULDERS),
    Part("neck", POINT["chest"], POINT["head_bottom"], (0.034, 0.032), (0.034, 0.032), 0.8, "shoulders", FACE[1:2]),
    Part("head", POINT["head_bottom"], POINT["head_top"], (0.05, 0.055), (0.06, 0.062), 0.9, "head", FACE),
    *_side("left"),
    *_side("right"),
)
# Parts that cover only a stretch between their points.
STRETCH = {"pelvis": (-0.12, 0.12), "head": (0.3, 0.68)}
# A joint lies inside the body; what is this much behind its part's axis is hidden by the part. Body heights.
HIDDEN_BEHIND = 0.045

_CAP = np.linspace(np.pi / 2, 3 * np.pi / 2, 9)
_CAP_ALONG, _CAP_ACROSS = np.cos(_CAP), np.sin(_CAP)


def facing(points: Array, left: int, right: int) -> Array:
    """The direction [T] that the body faces between two points of a pair: 0 the camera, pi/2 the right of the image."""
    across = points[:, left] - points[:, right]
    return np.arctan2(across[:, 2], across[:, 0])


class Figure:
    """A person of a scene: build, motion and clothes, drawn from ``rng``.

    Args:
        times: seconds [T], ascending.
        height_px: how tall the figure will be drawn, about; its textures have that resolution.
    """

    def __init__(self, rng: np.random.Generator, settings: SceneSettings, times: Array, height_px: float) -> None:
        build = Build.drawn(rng)
        action = ACTIONS[settings.actions[rng.integers(len(settings.actions))]]
        self.points = posed(build, action(rng, times * settings.speed, build))  # [T, P, 3], camera coordinates
        self.stoutness = rng.uniform(0.85, 1.25)
        self.facing = {
            "hips": facing(self.points, *HIPS),
            "shoulders": facing(self.points, *SHOULDERS),
            "head": facing(self.points, JOINT["left_ear"], JOINT["right_ear"]),
        }
        self.strips = _dressed(rng, settings.contrast, height_px)

    def shapes(self, pixels: Array, scale: Array) -> Shapes:
        """Where the parts are in the image at every moment.

        Args:
            pixels: the points [T, P, 2] there.
            scale: pixels a body height at every point [T, P].
        """
        first, last = pixels[:, _START], pixels[:, _END]
        starts, ends = first + _STRETCH[:, :1] * (last - first), first + _STRETCH[:, 1:] * (last - first)
        turned = np.stack([self.facing[part.turns_with] for part in PARTS], axis=1)[..., None]
        radii = self.stoutness * np.hypot(_WIDE * np.cos(turned), _DEEP * np.sin(turned))
        radii = radii * np.stack([scale[:, _START], scale[:, _END]], axis=2)
        along = ends - starts
        length = np.linalg.norm(along, axis=2, keepdims=True)
        along = np.where(length > 0.01, along / np.maximum(length, 0.01), (0.0, 1.0))
        depths = (self.points[:, _START, 2] + self.points[:, _END, 2]) / 2
        return Shapes(starts, ends, along, radii, depths)

    def patch(self, part: int, moment: int, light: float) -> Image:
        """The visible half of a part's texture under light from a direction: [along, across, 3]."""
        strip = self.strips[part]
        around = strip.shape[1]
        angle = np.arcsin(np.linspace(-1, 1, patch_columns(strip)))
        turned = self.facing[PARTS[part].turns_with][moment]
        columns = np.floor((0.5 + (angle - turned) / (2 * np.pi)) * around).astype(int) % around
        shade = AMBIENT + (1 - AMBIENT) * np.maximum(np.cos(angle - light), 0)
        return np.asarray((strip[:, columns] * shade[None, :, None]).astype(np.uint8))


_START = np.array([part.start for part in PARTS])
_END = np.array([part.end for part in PARTS])
_WIDE = np.array([part.wide for part in PARTS])
_DEEP = np.array([part.deep for part in PARTS])
_CAPS = np.array([part.cap for part in PARTS])
_STRETCH = np.array([STRETCH.get(part.name, (0.0, 1.0)) for part in PARTS])
SHOWN_BY: NDArray[np.bool_] = np.array([[joint in part.joints for joint in range(NUM_JOINTS)] for part in PARTS])


@dataclass(frozen=True)
class Shapes:
    """All parts of a figure in the image at every moment, in pixels."""

    starts: Array  # [T, parts, 2]
    ends: Array  # [T, parts, 2]
    along: Array  # [T, parts, 2], unit vectors from start to end
    radii: Array  # [T, parts, 2], half widths at start and end
    depths: Array  # [T, parts], body heights from the camera

    def outlines(self) -> Array:
        """Convex polygons [T, parts, 18, 2]."""
        along, across = self.along[:, :, None], np.stack([-self.along[..., 1], self.along[..., 0]], axis=-1)[:, :, None]
        ends = []
        for end, point, sign in ((0, self.starts, 1), (1, self.ends, -1)):
            radius = self.radii[:, :, end, None, None]
            curve = _CAPS[:, None, None] * _CAP_ALONG[:, None] * along + _CAP_ACROSS[:, None] * across
            ends.append(point[:, :, None] + sign * radius * curve)
        return np.concatenate(ends, axis=2)

    def texture_maps(self, strips: Sequence[Image]) -> Array:
        """The affine maps [T, parts, 2, 3] from the pixels of patches, the visible halves of strips, to the image's."""
        rows = np.array([strip.shape[0] for strip in strips])[:, None]
        columns = np.array([patch_columns(strip) for strip in strips])[:, None]
        radius = self.radii.max(axis=2, keepdims=True)
        # Towards the image's right for a part whose start is below its end.
        across = np.stack([-self.along[..., 1], self.along[..., 0]], axis=-1)
        low = self.starts - self.along * _CAPS[:, None] * self.radii[..., :1]
        high = self.ends + self.along * _CAPS[:, None] * self.radii[..., 1:]
        right, up = across * 2 * radius / (columns - 1), (high - low) / (rows - 1)
        return np.stack([right, up, low - across * radius], axis=-1)


class Drawing:
    """A figure, ready to be painted at any moment.

    Args:
        figure: whose textures are painted.
        shapes: where its parts are.
        shift: a displacement [T, 2] of the whole image.
        size: the image's width and height.
    """

    def __init__(self, figure: Figure, shapes: Shapes, shift: Array, size: tuple[int, int]) -> None:
        outlines = shapes.outlines() + shift[:, None, None]
        self.boxes = covered(outlines, size)
        corners = self.boxes[:, :, :2]
        self.polygons = np.round((outlines - corners[:, :, None]) * 2**SHIFT).astype(np.int32)
        self.maps = shapes.texture_maps(figure.strips)
        self.maps[..., 2] += shift[:, None] - corners
        self.far_to_near = np.argsort(-shapes.depths, axis=1, kind="stable")

    def paint(self, canvas: Image, moment: int, patches: Sequence[Image]) -> None:
        """Paints all parts with their patches (see :meth:`Figure.patch`)."""
        for part in self.far_to_near[moment].tolist():
            left, top, width, height = self.boxes[moment, part].tolist()
            if width <= 0 or height <= 0:
                continue
            texture = cv2.warpAffine(
                patches[part],
                self.maps[moment, part],
                (width, height),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            mask = np.zeros((height, width), np.uint8)
            cv2.fillConvexPoly(mask, self.polygons[moment, part], 255, cv2.LINE_8, SHIFT)
            cv2.copyTo(texture, mask, canvas[top : top + height, left : left + width])

    def number(self, seen: NDArray[np.uint8], moment: int, first: int) -> None:
        """Fills each part with its number, from ``first``."""
        for part in self.far_to_near[moment].tolist():
            left, top, width, height = self.boxes[moment, part].tolist()
            if width > 0 and height > 0:
                area = seen[top : top + height, left : left + width]
                cv2.fillConvexPoly(area, self.polygons[moment, part], first + part, cv2.LINE_8, SHIFT)


def covered(outlines: Array, size: tuple[int, int]) -> NDArray[np.int64]:
    """The part of an image that polygons [..., K, 2] cover: left, top, width, height [..., 4]; empty where negative."""
    low = np.maximum(np.floor(outlines.min(axis=-2)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(outlines.max(axis=-2)).astype(int) + 2, size)
    return np.concatenate([low, high - low], axis=-1)


def patch_columns(strip: Image) -> int:
    """The width of the visible half of a strip."""
    return max(int(strip.shape[1]) // 2, 2)


def _dressed(rng: np.random.Generator, contrast: float, height_px: float) -> list[Image]:
    """A texture strip for every part, at the resolution it is seen with."""
    skin = textures.SKIN[rng.integers(len(textures.SKIN))] * rng.uniform(0.9, 1.08)
    shirt, trousers = textures.Cloth(rng, contrast), textures.Cloth(rng, contrast)
    shoes = textures.Cloth(rng, 0.3)
    bare = {"neck", "head", "left_hand", "right_hand"}
    if rng.random() < 0.5:  # short sleeves
        bare |= {"left_forearm", "right_forearm"}
        if rng.random() < 0.3:
            bare |= {"left_upper_arm", "right_upper_arm"}
    if rng.random() < 0.35:  # short trousers
        bare |= {"left_shank", "right_shank"}
    strips = []
    for part in PARTS:
        if part.name == "head":
            strip = textures.head_strip(rng, skin, 64, 192)
        elif part.name == "trunk":
            strip = textures.shirt_strip(rng, shirt, 64, 192)
        elif part.name in bare:
            strip = textures.skin_strip(rng, skin, 32, 96)
        elif "foot" in part.name:
            strip = shoes.strip(rng, 32, 96)
        else:
            cloth = shirt if "arm" in part.name else trousers
            strip = cloth.strip(rng, 48, 144)
        strips.append(_seen_at(strip, part, height_px))
    return strips


def _seen_at(strip: Image, part: Part, height_px: float) -> Image:
    """The strip with about as many pixels as it will be seen with: what is finer would flicker."""
    around = int(np.clip(2 * np.pi * max(part.wide) * height_px, 12, strip.shape[1]))
    typical_length = {"trunk": 0.36, "head": 0.15}.get(part.name, 0.22)
    along = int(np.clip(typical_length * height_px, 6, strip.shape[0]))
    return np.asarray(cv2.resize(strip, (around, along), interpolation=cv2.INTER_AREA), np.uint8)
