"""What a training run is, as data: read from a YAML file, one per experiment of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deformwarp.functional import DILATIONS
from posewarper_models.network import PoseWarper, build_posewarper

FOLDER = Path(__file__).parent.parent / "configs"


class ConfigError(ValueError):
    """A configuration that cannot be used. The message names file and field."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Section):
    """Arguments of :func:`posewarper_models.build_posewarper`; the defaults are the paper's network."""

    backbone: str = "hrnet_w48"
    num_joints: int = Field(17, ge=1)
    num_blocks: int = Field(20, ge=1)
    channels: int = Field(128, ge=1)
    dilations: tuple[int, ...] = DILATIONS
    scale: float | None = None  # None: 1/D, as in the authors' code
    pretrained: bool = False
    backbone_settings: dict[str, Any] = {}


class DataConfig(_Section):
    """Which frames are labelled, and how people are cut out of them; the defaults are the paper's."""

    image_size: tuple[int, int] = (384, 288)  # height, width of the crop
    sigma: float = Field(3.0, gt=0)  # of the target Gaussians, in heatmap pixels
    every: int | None = Field(None, ge=1)  # every k-th frame is labelled; None for all that the files label
    per_video: int | None = Field(None, ge=1)  # this many frames of each video are labelled, evenly spaced
    videos: int | None = Field(None, ge=1)  # only the first so many; None for all
    max_delta: int = Field(3, ge=0)  # frame B is at most so many frames from frame A
    rotation: float = Field(45.0, ge=0, le=180)  # degrees, either way
    scaling: float = Field(0.35, ge=0, lt=1)  # as a share, either way
    flip: float = Field(0.5, ge=0, le=1)  # probability
    half_body: float = Field(0.3, ge=0, le=1)  # probability

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.every is not None and self.per_video is not None:
            raise ValueError("every and per_video: only one of them can choose the labelled frames")
        if any(side < 32 or side % 32 for side in self.image_size):
            raise ValueError(f"image_size: is {self.image_size}, should be positive multiples of 32")
        return self


class ScheduleConfig(_Section):
    """Adam and its steps; the defaults are the paper's. The paper does not state its batch size."""

    learning_rate: float = Field(1e-4, gt=0)
    milestones: tuple[int, ...] = (10, 15)  # epochs after which the learning rate is divided by ten
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(16, ge=1)  # of each device


class Config(_Section):
    """A whole training run."""

    stage: Literal["heatmaps", "warping", "cycle"]
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    seed: int = Field(0, ge=0)

    def build_model(self) -> PoseWarper:
        """The network, with initial weights."""
        return build_posewarper(**self.model.model_dump(), image_size=self.data.image_size, sigma=self.data.sigma)


def available() -> list[str]:
    """The names of the configurations that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_config(name: str | Path, overrides: Sequence[str] = ()) -> Config:
    """A configuration by name or path.

    Args:
        name: of a configuration of the package (see :func:`available`), or a YAML file. A file may start from another
            by ``extends: NAME``, and then states only what differs.
        overrides: such as ``"schedule.epochs=5"``; the value is YAML.

    Raises:
        ConfigError: there is no such file, or it has an unknown or impossible field.

    >>> load_config("propagation", ["data.every=5"]).data.every
    5
    """
    path = _path(name)
    values = _values(path)
    for override in overrides:
        values = _merged(values, _override(override))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_of(error)}") from error


def _path(name: str | Path) -> Path:
    for path in (Path(name), FOLDER / f"{name}.yaml"):
        if path.is_file():
            return path
    raise ConfigError(f"{name}: no such file, and no configuration of that name; there are {', '.join(available())}")


def _values(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The fields of a file over those of the file that it extends."""
    if path in seen:
        raise ConfigError(f"{path}: extends: goes round in a circle")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {type(values).__name__}, should hold fields")
    base = values.pop("extends", None)
    if base is None:
        return values
    beside = path.parent / f"{base}.yaml"
    return _merged(_values(beside if beside.is_file() else _path(base), (*seen, path)), values)


def _override(text: str) -> dict[str, Any]:
    """``a.b=1`` as nested dictionaries."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"{text}: should be FIELD=VALUE, such as schedule.epochs=5")
    try:
        nested = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{text}: the value is not YAML") from error
    for part in reversed(name.split(".")):
        nested = {part: nested}
    return dict(nested)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ``above`` over those of ``below``, section by section."""
    both = dict(below)
    for key, value in above.items():
        under = both.get(key)
        both[key] = _merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return both


def _first_of(error: ValidationError) -> str:
    first, *others = error.errors()
    field = ".".join(str(part) for part in first["loc"]) or "the whole file"
    more = f" (and {len(others)} more)" if others else ""
    return f"{field}: {first['msg']}, but is {first['input']!r}{more}"
