"""MMPose's PoseWarperNeck, whose forward depends on the number of its inputs, so that no trace can stand for it.

It runs, for each of ``num_offset_layers`` numbers j, ``deform_conv_layers[j](x, offset_layers[j](features))``, divides
every result by ``num_offset_layers`` and adds them up. With one layer of either kind, which does the work of all, this
is one warp.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from deformwarp.fuse.replay import keep_forward
from deformwarp.fuse.report import FusedSum, FusionReport, Skipped
from deformwarp.fuse.rewriting import fuse_together, join
from deformwarp.fuse.undo import past_of
from deformwarp.modules import FusedDeformWarp

NAME = ("mmpose", "PoseWarperNeck")


class OffsetsTogether(nn.ModuleList):
    """A list whose first element is itself: the convolutions' results together."""

    def __getitem__(self, index: Any) -> Any:
        if index != 0:
            raise IndexError(f"index: is {index}, but should be 0: the offset layers were fused into one")
        return self

    def forward(self, features: Tensor) -> list[Tensor]:
        """All offsets [N, 2*G*Kh*Kw, H, W] of features [N, F, H, W]."""
        return [layer(features) for layer in self.children()]


def is_neck(module: nn.Module) -> bool:
    """Whether it is MMPose's neck, or derives from it."""
    return any((kind.__module__.partition(".")[0], kind.__name__) == NAME for kind in type(module).__mro__)


def _why_not(neck: Any, convs: dict[str, nn.Module]) -> str | None:
    """Why a neck's convolutions cannot become one layer, or None."""
    kind = next(kind for kind in type(neck).__mro__ if "forward" in vars(kind))
    if kind.__name__ != NAME[1] or "forward" in vars(neck):
        return "its forward is not that of MMPose's PoseWarperNeck"
    count = getattr(neck, "num_offset_layers", None)
    lists = (getattr(neck, "offset_layers", ()), getattr(neck, "deform_conv_layers", ()))
    if count is None or any(len(one) != count for one in lists):
        return "it has not as many offset_layers and deform_conv_layers as its num_offset_layers says"
    if set(convs) != {f"deform_conv_layers.{j}" for j in range(count)}:
        return "not all of its deform_conv_layers can be taken over"
    return None


def fuse_neck(model: nn.Module, name: str, convs: dict[str, nn.Module], report: FusionReport) -> None:
    """Fuses the deformable convolutions of one neck, or says why not."""
    neck: Any = model.get_submodule(name)
    reason = _why_not(neck, convs)
    if reason is None:
        convs = {conv: convs[conv] for conv in sorted(convs, key=lambda path: int(path.rpartition(".")[2]))}
        try:
            made = FusedDeformWarp.from_deform_convs(list(convs.values()), scale=1 / len(convs))
        except ValueError as error:
            reason = str(error)
    if reason is not None:
        report.skipped.append(Skipped(name, f"not fused: {reason}"))
        return
    first: Any = convs["deform_conv_layers.0"]
    made.weight.requires_grad_(first.weight.requires_grad)
    made.train(first.training)
    fuse_together(neck, convs, "deform_conv_layers.0", made)
    past_of(neck).change(neck, "num_offset_layers", 1)
    past_of(neck).change(neck.offset_layers, "__class__", OffsetsTogether)
    keep_forward(neck)
    report.fused.append(
        FusedSum(name, tuple(join(name, conv) for conv in convs), join(name, "deform_conv_layers.0"), made.scale)
    )
