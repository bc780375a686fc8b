"""What a study is, as data: its videos, its networks, its schedules and what is varied. Read from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from posewarper_models.checkpoints import DEMO
from posewarper_models.data.synthetic import SceneSettings
from posewarper_models.flow import Dis, Farneback
from posewarper_models.train.config import Config, ConfigError, DataConfig, ModelConfig, ScheduleConfig

FOLDER = Path(__file__).parent / "configs"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitSettings(_Section):
    """A set of synthetic videos; every split has a seed, and so videos, of its own."""

    clips: int = Field(ge=1)
    seed: int = Field(ge=0)
    scene: dict[str, Any] = {}  # what differs from the study's scene


class VideoSettings(_Section):
    """The synthetic videos that stand in where no data set is given."""

    scene: dict[str, Any] = {}  # of SceneSettings
    train: SplitSettings
    tune: SplitSettings  # for the settings of optical flow and the regression of offsets; nothing is measured there
    test: SplitSettings
    hard: SplitSettings  # as test, but with longer exposures and more occluders

    def settings(self, split: str) -> SceneSettings:
        """Of one split's scenes."""
        return SceneSettings(**(self.scene | getattr(self, split).scene))

    @model_validator(mode="after")
    def _check(self) -> VideoSettings:
        seeds = [getattr(self, split).seed for split in SPLITS]
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds of the splits are {seeds}: two splits would be the same videos")
        for split in SPLITS:
            try:
                self.settings(split)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{split}.scene: {error}") from error
        return self


SPLITS = ("train", "tune", "test", "hard")


class Schedule(_Section):
    """Of one training: Adam, its rate divided by ten after 60 % and after 85 % where ``steps`` says how long.

    The paper's schedule, in epochs of all samples, where ``steps`` is None.
    """

    learning_rate: float = Field(1e-4, gt=0)
    batch_size: int = Field(16, ge=1)
    steps: int | None = Field(None, ge=1)
    epochs: int = Field(20, ge=1)  # with steps, parts of equal length, between which the rate may change

    @model_validator(mode="after")
    def _check(self) -> Schedule:
        if self.steps is not None and self.steps % self.epochs:
            raise ValueError(f"steps: is {self.steps}, but should be a multiple of epochs = {self.epochs}")
        return self

    @property
    def of_epochs(self) -> ScheduleConfig:
        """The same in epochs."""
        shares = (0.5, 0.75) if self.steps is None else (0.6, 0.85)
        return ScheduleConfig(
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            milestones=tuple(round(share * self.epochs) for share in shares),
            epochs=self.epochs,
        )

    @property
    def samples_an_epoch(self) -> int | None:
        """None for as many as there are."""
        return None if self.steps is None else self.steps // self.epochs * self.batch_size


class FlowNetworkSettings(_Section):
    """The small learned flow, which stands in where RAFT's weights are not there."""

    channels: tuple[int, ...] = (16, 32, 48, 64)  # of the pyramid, from half the resolution down
    reach: int = Field(4, ge=1)  # of the cost volume, pixels of a level
    width: int = Field(64, ge=1)  # of the decoder
    schedule: Schedule = Schedule(learning_rate=1e-3, batch_size=4, steps=2000)  # its rate falls as half a cosine
    size: tuple[int, int] = (192, 256)  # height, width of the training crops

    @model_validator(mode="after")
    def _check(self) -> FlowNetworkSettings:
        if self.schedule.steps is None:
            raise ValueError("schedule.steps: should be given: pairs of frames are drawn without end")
        step = 2 ** len(self.channels)
        if any(side % step for side in self.size):
            raise ValueError(f"size: is {self.size}, but both should be multiples of {step}, for the pyramid's sake")
        return self


class LabelSettings(_Section):
    """Figure 4: which amounts of labels are compared."""

    videos: tuple[int, ...]  # with one labelled frame each
    per_video: tuple[int, ...]  # labelled frames
    of_videos: int = Field(ge=1)  # videos where per_video is varied
    heatmaps: Schedule
    warping: Schedule

    @property
    def cells(self) -> list[tuple[int, int]]:
        """(videos, labelled frames per video), each once."""
        varied = [(videos, 1) for videos in self.videos] + [(self.of_videos, n) for n in self.per_video]
        return sorted(set(varied))


class Study(_Section):
    """All that the experiments of one configuration share."""

    about: str  # for readers of the results
    videos: VideoSettings
    model: ModelConfig
    data: DataConfig
    precision: str = "32-true"
    every: int = Field(7, ge=2)  # every k-th frame is labelled
    strides: dict[str, int]  # regimes of motion: every how many frames of the videos one is taken
    main: str  # the regime of everything that is not about regimes
    main_of_data: str | None = None  # the same for a data set in place of synthetic videos; None for ``main``
    dilations: dict[str, tuple[int, ...]]  # sets that are compared; "main" is that of everything else
    start: str | None = None  # of the package's weights, the backbone to start from; None for random weights
    heatmaps: Schedule
    warping: Schedule  # at the main regime, from the heatmap network
    adapted: Schedule  # at another regime, from the main one's warping part
    cycle: Schedule
    flow_network: FlowNetworkSettings = FlowNetworkSettings()
    flow_check: int = Field(8, ge=0)  # tuning clips on which the learned flow must beat copied labels; 0 for no check
    farneback: dict[str, tuple[Any, ...]] = {}  # settings of Farneback to choose from, besides its defaults
    dis: dict[str, tuple[Any, ...]] = {}
    labels: LabelSettings
    equality_steps: int = Field(100, ge=2)  # steps of the comparison of backends
    bootstrap: int = Field(2000, ge=10)  # resamplings

    @model_validator(mode="after")
    def _check(self) -> Study:
        for field in ("main", "main_of_data"):
            regime = getattr(self, field)
            if regime is not None and regime not in self.strides:
                raise ValueError(f"{field}: is {regime!r}, but should be one of strides: {', '.join(self.strides)}")
        if self.start_checkpoint is not None and not self.start_checkpoint.is_file():
            raise ValueError(f"start: is {self.start!r}, but {self.start_checkpoint.parent} holds no such file")
        if "main" not in self.dilations:
            raise ValueError(f"dilations: are {', '.join(self.dilations)}, but one set should be called main")
        for name, kind in (("farneback", Farneback), ("dis", Dis)):
            unknown = set(getattr(self, name)) - set(vars(kind()))
            if unknown:
                raise ValueError(f"{name}: {sorted(unknown)[0]!r} is none of {', '.join(vars(kind()))}")
        return self

    @property
    def start_checkpoint(self) -> Path | None:
        """What ``start`` names: it stands in for the COCO weights that the paper starts from."""
        return None if self.start is None else DEMO.with_name(self.start)

    def for_data(self) -> Study:
        """The same study on a data set."""
        return self.model_copy(update={"main": self.main_of_data or self.main})

    def stage(self, name: str, schedule: Schedule, seed: int, dilations: str = "main") -> Config:
        """One stage of training, as :func:`posewarper_models.train.run.train` takes it."""
        model = self.model.model_copy(update={"dilations": self.dilations[dilations]})
        values = {"stage": name, "precision": self.precision, "seed": seed}
        return Config.model_validate(
            values
            | {
                "model": model.model_dump(),
                "data": self.data.model_dump(),
                "schedule": schedule.of_epochs.model_dump(),
            }
        )


def available_studies() -> list[str]:
    """The names of the configurations that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_study(name: str) -> Study:
    """A study of the package by name.

    Raises:
        ConfigError: there is none of that name, or it has an unknown or impossible field.

    >>> load_study("small").strides["moderate"]
    2
    """
    path = FOLDER / f"{name}.yaml"
    if name not in available_studies():
        raise ConfigError(f"config: is {name!r}, but should be one of {', '.join(available_studies())}")
    try:
        return Study.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise ConfigError(f"{path}: {field}: {first['msg']}") from error
