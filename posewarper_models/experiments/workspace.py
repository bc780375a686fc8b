"""What the experiments of one seed share: clips, trained models, predictions; made when first asked for, then kept.

WORK/CONFIG/DATA/videos/                                the synthetic videos
WORK/CONFIG/DATA/shared/flow.ckpt                       the learned flow, one for all seeds
WORK/CONFIG/DATA/shared/flow.sha256                     of its weights, which the predictions there belong to
WORK/CONFIG/DATA/shared/REGIME/...                      tuned flow; predictions of what does not depend on the seed
WORK/CONFIG/DATA/seed-0/heatmaps/                       stage 1
WORK/CONFIG/DATA/seed-0/REGIME/warping-DILATIONS/       stage 2
WORK/CONFIG/DATA/seed-0/REGIME/cycle/
WORK/CONFIG/DATA/seed-0/REGIME/predictions/METHOD.json
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from posewarper_models.data.annotations import Clip, Labels
from posewarper_models.experiments.comparison import Task, task
from posewarper_models.experiments.flow_check import require_learned, require_own_predictions
from posewarper_models.experiments.flow_network import FlowNetwork, LearnedFlow
from posewarper_models.experiments.flow_training import train_flow
from posewarper_models.experiments.predictions import load_predictions, save_predictions
from posewarper_models.experiments.settings import Schedule, Study
from posewarper_models.experiments.training import trained
from posewarper_models.experiments.videos import Videos, strided
from posewarper_models.network import PoseWarper
from posewarper_models.propagate import REACH
from posewarper_models.train.run import MODEL, Machine, inputs_of
from posewarper_models.train.samples import training_samples


@dataclass
class Workspace:
    """One seed of a study, in a folder."""

    study: Study
    videos: Videos
    folder: Path  # of the configuration
    pictures: Path  # folder of pictures that are kept beside the results
    seed: int
    machine: Machine
    progress: bool
    _clips: dict[str, list[Clip]] = field(default_factory=dict, repr=False)
    _flow: FlowNetwork | None = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        """What trained models compute on."""
        cpu = self.machine.accelerator == "cpu" or not torch.cuda.is_available()
        return torch.device("cpu" if cpu else "cuda")

    @property
    def shared(self) -> Path:
        """Folder of what all seeds share."""
        return self.folder / "shared"

    @property
    def own(self) -> Path:
        """Folder of this seed."""
        return self.folder / f"seed-{self.seed}"

    def clips(self, split: str, regime: str | None = None) -> list[Clip]:
        """Clips with all their labels, at a regime's stride; the main one's, if None."""
        if split not in self._clips:
            self._clips[split] = self.videos.clips(split)
        stride = self.study.strides[regime or self.study.main]
        return [strided(clip, stride) for clip in self._clips[split]]

    def tasks(self, split: str, regime: str | None = None) -> list[Task]:
        """Clips to propagate through."""
        made = [task(clip, self.study.every, self.study.data.image_size) for clip in self.clips(split, regime)]
        return [each for each in made if any(frame.people for frame in each.truth.frames)]

    def sparse(self, regime: str | None = None) -> list[Clip]:
        """The training clips with every k-th frame labelled."""
        return [clip.relabelled(clip.labels.every(self.study.every)) for clip in self.clips("train", regime)]

    def heatmap_network(self) -> PoseWarper:
        """Stage 1, trained on the sparse labels of the main regime."""
        folder, start = self.own / "heatmaps", self.study.start_checkpoint
        return self.stage("heatmaps", self.study.heatmaps, folder, self.sparse(), start)

    def posewarper(self, regime: str | None = None, dilations: str = "main") -> PoseWarper:
        """Stage 2, trained at the stride at which it is used: at the main regime's, or from there to another one."""
        main = self.study.main
        regime = regime or main
        if regime == main:
            self.heatmap_network()
            schedule, start = self.study.warping, self.own / "heatmaps"
        else:
            self.posewarper(main, dilations)
            schedule, start = self.study.adapted, self.own / main / f"warping-{dilations}"
        folder = self.own / regime / f"warping-{dilations}"
        return self.stage("warping", schedule, folder, self.sparse(regime), start / MODEL, dilations)

    def with_cycle(self, regime: str) -> PoseWarper:
        """Stage 2, fine-tuned by cycle consistency."""
        self.posewarper(regime)
        start = self.own / regime / "warping-main" / MODEL
        return self.stage("cycle", self.study.cycle, self.own / regime / "cycle", self.sparse(regime), start)

    def stage(
        self,
        name: str,
        schedule: Schedule,
        folder: Path,
        clips: list[Clip],
        start: Path | None = None,
        dilations: str = "main",
    ) -> PoseWarper:
        """Any stage on any labelled clips: see :func:`posewarper_models.experiments.training.trained`."""
        config = self.study.stage(name, schedule, self.seed, dilations)
        model = trained(
            config,
            training_samples(clips, config),
            folder,
            inputs=inputs_of(clips, start),
            samples_an_epoch=schedule.samples_an_epoch,
            start=start,
            machine=self.machine,
            progress=self.progress,
        )
        return model.to(self.device).eval()

    def flow_network(self) -> FlowNetwork:
        """The learned flow, for all regimes' distances; as other flow, one for all seeds.

        Raises:
            UntrainedFlowError: on tuning clips it is no better than copied labels.
            RunError: the checkpoint has other settings, or the predictions that are there come from other weights.
        """
        if self._flow is None:
            self._flow = self._checked_flow()
        return self._flow

    def _checked_flow(self) -> FlowNetwork:
        furthest = REACH * max(self.study.strides.values())
        if "train" not in self._clips:
            self._clips["train"] = self.videos.clips("train")
        network = train_flow(
            self.study.flow_network,
            self._clips["train"],
            furthest,
            self.shared / "flow.ckpt",
            seed=0,
            device=self.device,
            progress=self.progress,
        )
        if self.study.flow_check:
            require_learned(self.tasks("tune")[: self.study.flow_check], LearnedFlow(network))
        require_own_predictions(network, self.shared)
        return network

    def predictions(
        self, folder: Path, method: str, clips: Sequence[Labels], compute: Callable[[], list[Labels]]
    ) -> list[Labels]:
        """What a method predicted for clips, in their order; computed once, then read."""
        path = folder / "predictions" / f"{method}.json"
        if not path.is_file():
            save_predictions(compute(), path)
        return load_predictions(path, clips, method)
