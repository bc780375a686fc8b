"""What is optimised in each stage, as Lightning modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from posewarper_models.network import PoseWarper

if TYPE_CHECKING:  # losses need no configuration, nor pydantic
    from posewarper_models.train.config import Config

Batch = dict[str, Any]


class NonFiniteLossError(ValueError):
    """The loss is infinite or not a number. The message names the step and the samples of the batch."""


def heatmap_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Half the mean squared error over the joints that count (paper, section 3: loss function).

    Args:
        predicted: [N, J, h, w].
        target: [N, J, h, w].
        weight: [N, J, 1, 1], 0 for joints that are not annotated.

    >>> heatmap_loss(torch.ones(1, 2, 4, 4), torch.zeros(1, 2, 4, 4), torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)).item()
    0.25
    """
    return 0.5 * (weight * (predicted - target)).square().mean()


class Training(LightningModule):
    """What the stages share: Adam with steps of ten, and a loss that must be finite."""

    def __init__(self, model: PoseWarper, config: Config) -> None:
        super().__init__()
        self.model = model
        self.config = config
        # As plain data: the architecture makes the checkpoint readable by load_checkpoint.
        self.save_hyperparameters({"architecture": model.architecture, "config": config.model_dump(mode="json")})

    def loss(self, batch: Batch) -> Tensor:
        """Of one batch."""
        raise NotImplementedError

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Lightning's hook.

        Raises:
            NonFiniteLossError: instead of a step that would destroy the weights.
        """
        loss = self.loss(batch)
        if not loss.isfinite():
            raise NonFiniteLossError(
                f"loss: is {loss.item()} at step {self.global_step} (epoch {self.current_epoch}, batch {batch_idx}); "
                f"the batch is {_names(batch)}"
            )
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Lightning's hook."""
        self.log("validation_loss", self.loss(batch), prog_bar=True, batch_size=len(batch["target"]), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Lightning's hook."""
        schedule = self.config.schedule
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(learning, schedule.learning_rate)
        steps = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(schedule.milestones), gamma=0.1)
        return {"optimizer": optimizer, "lr_scheduler": steps}


class HeatmapTraining(Training):
    """Stage 1: the backbone learns the heatmaps of single frames. The warping part is carried along unchanged."""

    def __init__(self, model: PoseWarper, config: Config) -> None:
        super().__init__(model, config)
        model.warping.requires_grad_(False)

    def loss(self, batch: Batch) -> Tensor:
        """Of a batch with image [N, 3, H, W], target [N, J, h, w] and weight [N, J, 1, 1]."""
        return heatmap_loss(self.model.heatmaps(batch["image"]), batch["target"], batch["weight"])


class WarpingTraining(Training):
    """Stage 2: the warping part learns to predict frame A's heatmap from frame B's; the backbone is frozen."""

    def __init__(self, model: PoseWarper, config: Config) -> None:
        super().__init__(model, config)
        model.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> WarpingTraining:
        """Leaves the backbone in evaluation mode: its batch norms' statistics are frozen as well."""
        super().train(mode)
        self.model.backbone.eval()
        return self

    def frozen_heatmaps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of frames A and B, [N, J, h, w] each."""
        with torch.no_grad():
            both = self.model.heatmaps(torch.cat([batch["reference"], batch["support"]]))
        f_a, f_b = both.chunk(2)
        return f_a, f_b

    def loss(self, batch: Batch) -> Tensor:
        """Of a batch with reference (A) and support (B) [N, 3, H, W], target [N, J, h, w] and weight [N, J, 1, 1]."""
        f_a, f_b = self.frozen_heatmaps(batch)
        return heatmap_loss(self.model.warped(f_a, f_b), batch["target"], batch["weight"])


class CycleTraining(WarpingTraining):
    """Cycle consistency (paper, section 4.1, figure 3): A's heatmap goes to B and back, to be what A's labels say.

    As in the authors' code this is a fine-tuning of stage 2's result by this loss alone.
    """

    def loss(self, batch: Batch) -> Tensor:
        """Of the same batches as stage 2."""
        f_a, f_b = self.frozen_heatmaps(batch)
        at_b = self.model.warped(f_b, f_a)
        back_at_a = self.model.warped(f_a, f_b, at_b)
        return heatmap_loss(back_at_a, batch["target"], batch["weight"])


STAGES: dict[str, type[Training]] = {"heatmaps": HeatmapTraining, "warping": WarpingTraining, "cycle": CycleTraining}


def _names(batch: Batch) -> str:
    """Clip, frame and person of every sample."""
    fields = [name for name in ("clip", "frame", "person", "delta") if name in batch]
    columns = [value.tolist() if isinstance(value := batch[name], Tensor) else list(value) for name in fields]
    rows = zip(*columns, strict=True)
    return "; ".join(", ".join(f"{n} {v}" for n, v in zip(fields, row, strict=True)) for row in rows) or "not named"
