"""Checkpoints: ours, and those of the authors' code and of MMPose 0.x, in both directions.

Files are read with ``weights_only=True``: nothing in them is executed.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from deformwarp.functional import DILATIONS
from posewarper_models.network import PoseWarper, build_posewarper

FORMAT = "posewarper-1"
DEMO = Path(__file__).parent / "weights" / "demo.pt"  # a small model, trained on synthetic clips; see weights/README.md
State = Mapping[str, Tensor]
Foreign = Literal["authors", "mmpose"]


class CheckpointError(ValueError):
    """A file that is no usable checkpoint, or one that would be overwritten. The message names it."""


@dataclass(frozen=True)
class CheckpointReport:
    """What was found in a checkpoint, and what was left over."""

    path: Path
    kind: str  # "posewarper", "training", "authors" or "mmpose"
    warping: bool  # whether it holds a warping part (stage 2); if not, that starts as the identity
    loaded: int  # tensors of the model that were filled
    unexpected: tuple[str, ...]  # keys of the file that the model has no place for

    @property
    def complete(self) -> bool:
        """Whether everything was taken."""
        return not self.unexpected

    def __str__(self) -> str:
        stage = "backbone and warping part" if self.warping else "backbone; the warping part starts as the identity"
        lines = [f"{self.path}: checkpoint of kind {self.kind}, {self.loaded} tensors: {stage}"]
        if self.unexpected:
            lines.append(f"  unexpected ({len(self.unexpected)}):")
            lines += [f"    {key}" for key in self.unexpected]
        return "\n".join(lines)


@dataclass(frozen=True)
class Layout:
    """How somebody else's PoseWarper on HRNet names its parts."""

    kind: Foreign
    backbone: str  # prefix of HRNet's keys
    heads: tuple[str, ...]  # the 1x1 convolution to heatmaps: of stage 1, then of stage 2 where that differs
    features: str  # residual blocks
    offsets: str  # offset convolution of dilation d
    deforms: str  # deformable convolution of dilation d
    first: int  # the number of the first dilation

    def head(self, state: State) -> str:
        """The head's name in a file; the first possible one where it has none."""
        return next((head for head in self.heads if f"{head}.weight" in state), self.heads[0])

    def names(self, key: str, head: str, num_dilations: int) -> list[str]:
        """The names there of one of our keys: one, or one per dilation for the weight of the warp.

        >>> LAYOUTS["authors"].names("warping.warp.weight", "final_layer", 2)
        ['deform_conv1.weight', 'deform_conv2.weight']
        """
        if key == "warping.warp.weight":
            return [f"{self.deforms.format(self.first + d)}.weight" for d in range(num_dilations)]
        part, rest = key.split(".", 2)[1:]
        if key.startswith("warping.offset_convs."):
            number, rest = rest.split(".", 1)
            return [f"{self.offsets.format(self.first + int(number))}.{rest}"]
        prefix = {"features": self.backbone, "final_layer": f"{head}.", "offset_feats": f"{self.features}."}[part]
        return [prefix + rest]

    def owns(self, state: State) -> bool:
        """Whether a file looks like this layout."""
        return f"{self.backbone}stage4.0.branches.0.0.conv1.weight" in state

    def architecture(self, state: State, dilations: tuple[int, ...] | None) -> dict[str, Any]:
        """The arguments of :func:`build_posewarper`, read from shapes."""
        width = len(state[f"{self.backbone}stage4.0.branches.0.0.conv1.weight"])
        head = state.get(f"{self.head(state)}.weight")
        found: dict[str, Any] = {"backbone": f"hrnet_w{width}", "num_joints": 17 if head is None else len(head)}
        num_blocks = _count(state, f"{self.features}.{{}}.conv1.weight", 0)
        if num_blocks:
            found |= {"num_blocks": num_blocks, "channels": len(state[f"{self.features}.0.conv1.weight"])}
        num_dilations = _count(state, f"{self.offsets}.weight", self.first) or len(dilations or DILATIONS)
        found["dilations"] = dilations or DILATIONS
        if len(found["dilations"]) != num_dilations:
            raise CheckpointError(
                f"dilations: the file has {num_dilations} offset convolutions, but {found['dilations']} were named"
            )
        return found


LAYOUTS: dict[Foreign, Layout] = {
    "authors": Layout("authors", "", ("final_layer",), "offset_feats", "offsets{}", "deform_conv{}", 1),
    "mmpose": Layout(
        "mmpose",
        "backbone.",
        ("keypoint_head.final_layer", "neck.trans_layer"),
        "neck.offset_feats",
        "neck.offset_layers.{}",
        "neck.deform_conv_layers.{}",
        0,
    ),
}


def load_checkpoint(
    path: str | Path, *, backbone: nn.Module | None = None, dilations: tuple[int, ...] | None = None
) -> tuple[PoseWarper, CheckpointReport]:
    """A model with the weights of a checkpoint, in evaluation mode on the CPU, and a report on what was taken.

    Args:
        path: a file of ours (written by :func:`save_checkpoint` or by training), of the authors' code (stage 1 or
            2) or of MMPose 0.x (HRNet alone, or with PoseWarper's neck).
        backbone: the network, where the file is ours and was made with a network that timm does not know.
        dilations: of somebody else's file, where they are not the paper's (3, 6, 12, 18, 24).

    Returns:
        The model, and a report which says what was taken, what keys were left over, and whether there was a warping
        part, which stage 1 has not: it starts as the identity.

    Raises:
        CheckpointError: the file is missing, truncated, of no kind that is known here, or lacks tensors of the model,
            which would be left at random.
    """
    path = Path(path)
    content = _read(path)
    state = _state(path, content)
    kind, architecture = _architecture(path, content, state, dilations)
    if architecture["backbone"] is None and backbone is None:
        raise CheckpointError(f"{path}: was made with a backbone of its own, which should be passed as `backbone`")
    try:
        model = build_posewarper(**(architecture | ({} if backbone is None else {"backbone": backbone}))).eval()
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: architecture: {error}") from error
    return model, _fill(model, path, kind, state)


def save_checkpoint(
    model: PoseWarper, path: str | Path, *, dtype: torch.dtype = torch.float32, overwrite: bool = False
) -> None:
    """Writes weights and architecture, which :func:`load_checkpoint` needs nothing else to read.

    Args:
        model: what to write.
        path: where; its folder is created.
        dtype: of the floating-point tensors in the file. float16 halves it; loading gives float32 again.
        overwrite: whether a file that is there is replaced.

    Raises:
        CheckpointError: there is a file already.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path}: exists already; name another file")
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    torch.save({"format": FORMAT, "architecture": model.architecture, "state_dict": state}, unfinished)
    os.replace(unfinished, path)


def foreign_state(model: PoseWarper, kind: Foreign, *, warping: bool = True) -> dict[str, Tensor]:
    """The model's tensors under somebody else's names: a state dict for the authors' code or for MMPose 0.x.

    Args:
        model: must have an HRNet as backbone.
        kind: ``"authors"`` or ``"mmpose"``.
        warping: whether the warping part is included (stage 2) or not (stage 1).

    Raises:
        CheckpointError: the backbone is no HRNet, which is all that those codes have.
    """
    if not str(model.architecture["backbone"]).startswith("hrnet_"):
        raise CheckpointError(f"backbone: is {model.architecture['backbone']}, but {kind} knows only hrnet_...")
    layout = LAYOUTS[kind]
    head = layout.heads[-1 if warping else 0]
    state: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        if key.startswith("warping.") and not warping:
            continue
        names = layout.names(key, head, len(model.architecture["dilations"]))
        state |= dict(zip(names, value.unbind() if key == "warping.warp.weight" else [value], strict=True))
    return state


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read as weights; it is truncated, no checkpoint, or holds other objects than tensors "
            f"and plain values, which are never loaded: {reason}"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds {type(content).__name__}, but should hold a dictionary of tensors")
    return content


def _state(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors, without what DataParallel and Lightning put before their names."""
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: state_dict: is {type(state).__name__}, but should be a dictionary")
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors")
    for prefix in ("module.", "model."):
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _architecture(
    path: Path, content: Mapping[str, Any], state: State, dilations: tuple[int, ...] | None
) -> tuple[str, dict[str, Any]]:
    """The kind of checkpoint, and the arguments of :func:`build_posewarper`."""
    trained = content.get("hyper_parameters")
    for kind, holder in (("posewarper", content), ("training", trained)):
        if isinstance(holder, Mapping) and isinstance(holder.get("architecture"), Mapping):
            return kind, {"backbone": None, **holder["architecture"]}
    for layout in LAYOUTS.values():
        if layout.owns(state):
            return layout.kind, layout.architecture(state, dilations)
    raise CheckpointError(
        f"{path}: is neither a checkpoint of ours nor of a PoseWarper or HRNet of the authors or MMPose; "
        f"its {len(state)} tensors are {', '.join(list(state)[:3])}, ..."
    )


def _count(state: State, name: str, first: int) -> int:
    """How many consecutive numbers, from the first, a file has tensors for."""
    number = first
    while name.format(number) in state:
        number += 1
    return number - first


def _fill(model: PoseWarper, path: Path, kind: str, state: State) -> CheckpointReport:
    """Copies every tensor of the model, but for those of a warping part that is not there at all."""
    layout = next((layout for layout in LAYOUTS.values() if layout.kind == kind), None)
    head = layout.head(state) if layout else ""
    num_dilations = len(model.architecture["dilations"])
    filled, missing, mismatched, used = 0, [], [], set()
    names_of = {key: layout.names(key, head, num_dilations) if layout else [key] for key in model.state_dict()}
    warping = any(name in state for key, names in names_of.items() if key.startswith("warping.") for name in names)
    for key, parameter in model.state_dict().items():
        names = names_of[key]
        lacking = [name for name in names if name not in state]
        used.update(names)
        if lacking:
            # Checkpoints of before PyTorch 0.4.1 do not count batches, which nothing here reads.
            if not key.endswith("num_batches_tracked") and (warping or not key.startswith("warping.")):
                missing += lacking
            continue
        stacked = layout is not None and key == "warping.warp.weight"
        parts = [tuple(parameter.shape[1:] if stacked else parameter.shape)] * len(names)
        wrong = [name for name, shape in zip(names, parts, strict=True) if tuple(state[name].shape) != shape]
        if wrong:
            mismatched += [f"{name}: {list(state[name].shape)}, should be {list(parts[0])}" for name in wrong]
            continue
        value = torch.stack([state[name] for name in names]) if stacked else state[key if not layout else names[0]]
        with torch.no_grad():
            parameter.copy_(value)
        filled += 1
    unexpected = tuple(key for key in state if key not in used)
    _check_whole(path, missing, mismatched)
    return CheckpointReport(path, kind, warping, filled, unexpected)


def _check_whole(path: Path, missing: list[str], mismatched: list[str]) -> None:
    lacks = [
        f"{title}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
        for title, keys in (("of another shape", mismatched), ("missing", missing))
        if keys
    ]
    if lacks:
        raise CheckpointError(
            f"{path}: {len(missing) + len(mismatched)} tensors of the model are not in it; {'; '.join(lacks)}"
        )
