"""A scene through a camera: figures, occluders and a background, light, exposure, and what is labelled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from posewarper_models.data.annotations import Array, Box, FrameLabels, Person
from posewarper_models.data.synthetic import textures
from posewarper_models.data.synthetic.actions import smooth_noise
from posewarper_models.data.synthetic.figures import (
    HIDDEN_BEHIND,
    PARTS,
    SHOWN_BY,
    Drawing,
    Figure,
    covered,
)
from posewarper_models.data.synthetic.settings import SceneSettings
from posewarper_models.skeleton import NUM_JOINTS
from posewarper_models.video import Image

FOCAL_LENGTH = 2.0  # in frame heights
EYE_LEVEL = -0.5  # of the camera, body heights, y points down
BACKGROUND_DEPTH = 9.0  # body heights
NEAREST = 1.2  # body heights; nothing comes closer
FEWEST_JOINTS = 4  # people of whom fewer are seen become a region to ignore
_OCCLUDER = 255


@dataclass(frozen=True)
class Camera:
    """Where the camera is over time, and how it projects; x and y are [T]."""

    x: Array
    y: Array
    roll: Array  # radians
    width: int
    height: int

    def project(self, points: Array) -> tuple[Array, Array]:
        """Pixels [T, P, 2] and pixels a body height [T, P] of points [T, P, 3]."""
        scale = FOCAL_LENGTH * self.height / np.maximum(points[..., 2], NEAREST)
        x = (points[..., 0] - self.x[:, None]) * scale
        y = (points[..., 1] - EYE_LEVEL - self.y[:, None]) * scale
        sine, cosine = np.sin(self.roll)[:, None], np.cos(self.roll)[:, None]
        pixels = np.stack([cosine * x - sine * y + self.width / 2, sine * x + cosine * y + self.height / 2], axis=-1)
        return pixels, scale

    def turns(self) -> Array:
        """The roll as matrices [T, 2, 2]."""
        sine, cosine = np.sin(self.roll), np.cos(self.roll)
        return np.stack([np.stack([cosine, -sine], axis=-1), np.stack([sine, cosine], axis=-1)], axis=-2)

    def width_at(self, depth: float) -> float:
        """How much of the world the image shows at a depth, body heights."""
        return self.width / self.height * depth / FOCAL_LENGTH


class Sheet:
    """A flat textured thing that drifts through the scene: a bush, a post, a board.

    Args:
        places: its centre over time [T, 3], camera coordinates.
        tall: body heights.
        hides_people: False for what moves in the background.
    """

    def __init__(self, texture: Image, mask: NDArray[np.uint8], places: Array, tall: float, hides_people: bool) -> None:
        self.texture, self.mask, self.places, self.tall, self.hides_people = texture, mask, places, tall, hides_people

    def placed(self, camera: Camera, shift: Array) -> None:
        """Computes where it is in the image, displaced by ``shift`` [T, 2]."""
        centres, scale = camera.project(self.places[:, None])
        zoom = self.tall * scale / self.mask.shape[0]
        turn = camera.turns() * zoom[..., None]  # [T, 2, 2]
        corner = centres[:, 0] + shift - turn @ (np.array(self.mask.shape[::-1]) / 2)
        columns, rows = self.mask.shape[::-1]
        corners = np.array([(0, 0), (columns, 0), (0, rows), (columns, rows)])
        self.boxes = covered(corners @ turn.transpose(0, 2, 1) + corner[:, None], (camera.width, camera.height))
        self.maps = np.concatenate([turn, (corner - self.boxes[:, :2])[..., None]], axis=2)

    def paint(self, canvas: Image, moment: int) -> None:
        """Paints it onto an image [H, W, 3]."""
        left, top, width, height = self.boxes[moment].tolist()
        if width > 0 and height > 0:
            texture = cv2.warpAffine(
                self.texture,
                self.maps[moment],
                (width, height),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            cv2.copyTo(texture, self._mask(moment), canvas[top : top + height, left : left + width])

    def number(self, seen: NDArray[np.uint8], moment: int, value: int) -> None:
        """Fills it with a number."""
        left, top, width, height = self.boxes[moment].tolist()
        if width > 0 and height > 0:
            seen[top : top + height, left : left + width][self._mask(moment) > 0] = value

    def _mask(self, moment: int) -> NDArray[np.uint8]:
        size = self.boxes[moment, 2:].tolist()
        return np.asarray(cv2.warpAffine(self.mask, self.maps[moment], size, flags=cv2.INTER_NEAREST), np.uint8)


class Scene:
    """One clip to be rendered. Its content depends on ``seed`` and ``settings`` alone."""

    def __init__(self, settings: SceneSettings, seed: tuple[int, ...]) -> None:
        self.settings = settings
        rng = np.random.default_rng(seed)
        self.exposures = _exposures(settings)
        frame_times = np.arange(settings.frames) * settings.stride / settings.fps
        opening = ((np.arange(self.exposures) + 0.5) / self.exposures - 0.5) * settings.shutter
        times = (frame_times[:, None] + opening).ravel()  # ascending, as a shutter closes before it opens again
        self.frame_times = frame_times
        count = int(rng.integers(settings.people_min, settings.people_max + 1))
        heights = settings.figure_height * rng.uniform(0.75, 1.3, count) * np.where(np.arange(count) > 0, 0.85, 1)
        self.figures = [Figure(rng, settings, times, height * settings.height) for height in heights]
        self.camera = _camera(rng, settings, times, self.figures[0])
        for index, (figure, height) in enumerate(zip(self.figures, heights, strict=True)):
            _place(rng, figure, FOCAL_LENGTH / height, self.camera, 0.25 if index == 0 else 0.42)
        self.sheets = _sheets(rng, settings, times, self.camera)
        self.background = textures.background(rng, int(settings.height * 1.5), int(settings.width * 2.2))
        self.light = rng.uniform(-1.2, 1.2) + smooth_noise(rng, frame_times, 0.3, 0.5)
        self.gain = 1 + smooth_noise(rng, frame_times, 0.5 * settings.lighting, 1.0)
        self.tint = 1 + rng.normal(0, 0.06, 3)
        self.shadows = _Shadows(rng, settings, frame_times)
        self.grain = rng.normal(0, settings.noise, (settings.height + 64, settings.width + 64, 3)).astype(np.float32)
        self.grain_offsets = rng.integers(0, 64, (settings.frames, 2))
        self.shift = np.tile(_subpixel_shifts(self.exposures), (settings.frames, 1))
        size = (settings.width, settings.height)
        self.backdrop_maps = self._backdrop_maps()
        self.pixels, self.outlines, self.drawings, self.depths = [], [], [], []
        for figure in self.figures:
            pixels, scale = self.camera.project(figure.points)
            shapes = figure.shapes(pixels, scale)
            self.pixels.append(pixels)
            self.outlines.append(shapes.outlines())
            self.depths.append(shapes.depths)
            self.drawings.append(Drawing(figure, shapes, self.shift, size))
        for sheet in self.sheets:
            sheet.placed(self.camera, self.shift)

    def frames(self) -> Iterator[tuple[Image, Image]]:
        """Every frame [H, W, 3] with its map of parts [H, W] (see :meth:`labels`)."""
        for frame in range(self.settings.frames):
            yield self.render(frame), self.part_map(frame)

    def render(self, frame: int) -> Image:
        """One frame: the mean of its exposures, lit, with the sensor's noise."""
        total = np.zeros((self.settings.height, self.settings.width, 3), np.float32)
        patches = [self._patches(figure, frame) for figure in self.figures]
        for moment in range(frame * self.exposures, (frame + 1) * self.exposures):
            cv2.accumulate(self._exposed(moment, patches), total)
        total *= (self.gain[frame] / self.exposures * self.tint).astype(np.float32)
        total *= self.shadows.at(frame)
        dy, dx = self.grain_offsets[frame]
        total += self.grain[dy : dy + total.shape[0], dx : dx + total.shape[1]]
        return np.asarray(np.clip(total, 0, 255).astype(np.uint8))

    def _middle(self, frame: int) -> int:
        """The moment that a frame's labels describe."""
        return frame * self.exposures + self.exposures // 2

    def _patches(self, figure: Figure, frame: int) -> list[Image]:
        return [figure.patch(part, self._middle(frame), float(self.light[frame])) for part in range(len(PARTS))]

    def _exposed(self, moment: int, patches: list[list[Image]]) -> Image:
        canvas = self._backdrop(moment)
        for item in self._far_to_near(moment):
            if isinstance(item, Sheet):
                item.paint(canvas, moment)
            else:
                self.drawings[item].paint(canvas, moment, patches[item])
        return canvas

    def _far_to_near(self, moment: int) -> list[Sheet | int]:
        """Sheets, and the numbers of figures."""
        items: list[tuple[float, Sheet | int]] = [(sheet.places[moment, 2], sheet) for sheet in self.sheets]
        items += [(depths[moment].mean(), index) for index, depths in enumerate(self.depths)]
        return [item for _, item in sorted(items, key=lambda entry: -entry[0])]

    def _backdrop_maps(self) -> Array:
        """The affine maps [T, 2, 3] from the background's pixels to the image's."""
        camera, settings = self.camera, self.settings
        turns = camera.turns()
        looked_at = np.array([self.background.shape[1] / 2, self.background.shape[0] * 0.48])
        looked_at = (
            looked_at + np.stack([camera.x, camera.y], axis=-1) * FOCAL_LENGTH * settings.height / BACKGROUND_DEPTH
        )
        place = (
            np.array([settings.width / 2, settings.height / 2]) + self.shift - (turns @ looked_at[..., None])[..., 0]
        )
        return np.concatenate([turns, place[..., None]], axis=2)

    def _backdrop(self, moment: int) -> Image:
        size = (self.settings.width, self.settings.height)
        # Mirrored at its borders, the background never ends, however far the camera pans.
        return np.asarray(
            cv2.warpAffine(
                self.background, self.backdrop_maps[moment], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
            ),
            np.uint8,
        )

    def part_map(self, frame: int) -> NDArray[np.uint8]:
        """What is seen at every pixel [H, W] in the middle of an exposure: 0, figure * parts + part + 1, or 255."""
        moment = self._middle(frame)
        seen = np.zeros((self.settings.height, self.settings.width), np.uint8)
        for item in self._far_to_near(moment):
            if not isinstance(item, Sheet):
                self.drawings[item].number(seen, moment, item * len(PARTS) + 1)
            elif item.hides_people:
                item.number(seen, moment, _OCCLUDER)
        return seen

    def labels(self, frame: int, seen: NDArray[np.uint8], image_id: int, file_name: str) -> FrameLabels:
        """The people of a frame, given its map of parts; hidden joints keep their position."""
        moment = self._middle(frame)
        people, regions = [], []
        for index, (pixels_of, outlines_of) in enumerate(zip(self.pixels, self.outlines, strict=True)):
            pixels, outlines = pixels_of[moment, :NUM_JOINTS], outlines_of[moment]
            box = _clipped(outlines.reshape(-1, 2), self.settings)
            if box is None:
                continue
            keypoints = np.concatenate([pixels, self._visible(index, moment, pixels, seen)[:, None]], axis=1)
            inside = ((pixels >= -0.5) & (pixels < (self.settings.width - 0.5, self.settings.height - 0.5))).all(axis=1)
            keypoints[~inside] = 0
            head_box = _extent(outlines[_HEAD])
            if (keypoints[:, 2] > 0).sum() >= FEWEST_JOINTS:
                people.append(Person(index, box, keypoints.round(2), head_box))
            else:
                x, y, width, height = box
                regions.append(np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)]))
        return FrameLabels(image_id, file_name, tuple(people), ignore_regions=tuple(regions))

    def _visible(self, index: int, moment: int, pixels: Array, seen: NDArray[np.uint8]) -> Array:
        """[J], 1 where the pixel of a joint shows a part the joint belongs to, and the joint is not on its far side."""
        height, width = seen.shape
        x, y = np.clip(np.round(pixels).astype(int), 0, (width - 1, height - 1)).T
        part = seen[y, x].astype(int) - 1 - index * len(PARTS)
        own = (part >= 0) & (part < len(PARTS))
        part = np.where(own, part, 0)
        # A limb's own joints lie on its axis; the trunk and the head have a far side.
        joint_depths = self.figures[index].points[moment, :NUM_JOINTS, 2]
        near = ~np.isin(part, _THICK) | (joint_depths <= self.depths[index][moment, part] + HIDDEN_BEHIND)
        return np.asarray(own & SHOWN_BY[part, np.arange(NUM_JOINTS)] & near, float)


_HEAD = next(index for index, part in enumerate(PARTS) if part.name == "head")
_THICK = [index for index, part in enumerate(PARTS) if part.name in ("pelvis", "trunk", "head")]


def _exposures(settings: SceneSettings) -> int:
    """How many instants stand for an open shutter: odd, so that one is in the middle; steps of a pixel or two."""
    fastest = 2.5 * settings.speed * settings.figure_height * settings.height * settings.shutter  # pixels
    return int(np.clip(np.ceil(fastest / 1.5), 5, 25)) // 2 * 2 + 1


def _subpixel_shifts(exposures: int) -> Array:
    """A displacement [exposures, 2] for each, different in x and in y, none in the middle: smooth edges for free."""
    middle = exposures // 2
    steps = np.arange(exposures) - middle
    return np.stack([steps, (2 * steps + middle) % exposures - middle], axis=1) / exposures


def _camera(rng: np.random.Generator, settings: SceneSettings, times: Array, followed: Figure) -> Camera:
    """Hand-held, and following a figure more or less."""
    pelvis = followed.points[:, -7, 0]
    follow = rng.uniform(0.5, 1.0) * (pelvis - pelvis[len(pelvis) // 2])
    shake, shaken_times = settings.camera, times * settings.speed
    return Camera(
        x=follow + smooth_noise(rng, shaken_times, 0.05 * shake, 1.0),
        y=smooth_noise(rng, shaken_times, 0.025 * shake, 1.0),
        roll=smooth_noise(rng, shaken_times, 0.02 * shake, 0.8),
        width=settings.width,
        height=settings.height,
    )


def _place(rng: np.random.Generator, figure: Figure, depth: float, camera: Camera, reach: float) -> None:
    """Puts a figure so that in mid-clip it stands at a depth, within ``reach`` image widths of the middle."""
    points = figure.points
    middle = points[len(points) // 2].mean(axis=0)
    points[..., 0] += rng.uniform(-reach, reach) * camera.width_at(depth) - middle[0]
    # It comes closer or goes away by at most a third of the distance.
    travelled = points[:, -7, 2] - middle[2]
    most = depth / 3
    points[..., 2] += (depth - middle[2] + most * np.tanh(travelled / most) - travelled)[:, None]


def _sheets(rng: np.random.Generator, settings: SceneSettings, times: Array, camera: Camera) -> list[Sheet]:
    sheets = [
        _sheet(rng, settings, times, camera, rng.uniform(1.3, 1.7), hides_people=True)
        for _ in range(rng.poisson(settings.occluders))
    ]
    sheets += [
        _sheet(rng, settings, times, camera, rng.uniform(5.0, 8.0), hides_people=False)
        for _ in range(rng.integers(0, 4))
    ]
    return sheets


def _sheet(
    rng: np.random.Generator, settings: SceneSettings, times: Array, camera: Camera, depth: float, hides_people: bool
) -> Sheet:
    """A post, a board or a bush at a depth, with some motion of its own."""
    visible = depth / FOCAL_LENGTH  # body heights from the image's top to its bottom
    kind = rng.integers(3)
    tall = visible * (rng.uniform(0.9, 1.6) if kind == 0 else rng.uniform(0.15, 0.45))
    rows = int(np.clip(settings.height * tall / visible, 8, 400))
    columns = max(int(rows * (rng.uniform(0.05, 0.12) if kind == 0 else rng.uniform(0.5, 1.6))), 4)
    texture = textures.Cloth(rng, 1.0).strip(rng, rows, columns)
    mask = np.full((rows, columns), 255, np.uint8)
    if kind == 2:
        y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
        ragged = textures.noise(rng, rows, columns, max(rows // 4, 2))
        mask = np.asarray((np.hypot(x, y) + 0.8 * (ragged - 0.5) < 0.85) * 255, np.uint8)
        texture = textures.mixed(
            textures.any_colour(rng), textures.any_colour(rng), textures.noise(rng, rows, columns, max(rows // 6, 2))
        )
    drift = rng.normal(0, 0.15) * settings.speed * (times - times.mean())
    x = (
        rng.uniform(-0.5, 0.5) * camera.width_at(depth)
        + drift
        + smooth_noise(rng, times * settings.speed, 0.03 * depth, 0.6)
    )
    y = EYE_LEVEL + (rng.uniform(-0.1, 0.1) if kind == 0 else rng.uniform(-0.35, 0.5)) * visible + 0 * times
    return Sheet(texture, mask, np.stack([x, y, np.full_like(times, depth)], axis=-1), tall, hides_people)


def _extent(points: Array) -> Box:
    low, high = points.min(axis=0).round(2), points.max(axis=0).round(2)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def _clipped(points: Array, settings: SceneSettings) -> Box | None:
    """The part of the points' extent that is in the image; None where there is none to speak of."""
    limit = (settings.width - 1.0, settings.height - 1.0)
    x, y, width, height = _extent(np.clip(points, 0, limit))
    return (x, y, width, height) if width >= 2 and height >= 2 else None


class _Shadows:
    """Soft shadows that drift over the scene: brightness is not constant, which optical flow assumes."""

    def __init__(self, rng: np.random.Generator, settings: SceneSettings, frame_times: Array) -> None:
        self.size = (settings.width, settings.height)
        self.depth = min(2.0 * settings.lighting, 0.9)
        self.field = textures.noise(rng, 48, 96, 20, 3).astype(np.float32)
        self.x = 32 + 14 * np.sin(frame_times * settings.speed * rng.uniform(0.3, 1.2) + rng.uniform(0, 6))
        self.y = 16 + 7 * np.sin(frame_times * settings.speed * rng.uniform(0.3, 1.2) + rng.uniform(0, 6))

    def at(self, frame: int) -> NDArray[np.float32]:
        """[H, W, 1], what is left of the light."""
        patch = cv2.getRectSubPix(self.field, (24, 20), (float(self.x[frame] + 12), float(self.y[frame])))
        soft = cv2.resize(patch, self.size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(1 - self.depth * soft, np.float32)[..., None]
