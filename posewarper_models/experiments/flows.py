"""Optical flow as it is compared: classical flow tuned on videos of its own, and a learned flow."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.progress import track
from torch import Tensor, nn

from posewarper_models.experiments.flow_check import score
from posewarper_models.experiments.flow_network import LearnedFlow
from posewarper_models.experiments.settings import Study
from posewarper_models.experiments.workspace import Workspace
from posewarper_models.flow import Dis, Farneback, Flow
from posewarper_models.train.run import RunError

Kind = Literal["farneback", "dis"]
KINDS: dict[Kind, type[Farneback] | type[Dis]] = {"farneback": Farneback, "dis": Dis}


@dataclass(frozen=True)
class Tuned:
    """The settings of a classical flow that did best on the tuning videos, and how well."""

    kind: Kind
    chained: bool
    settings: dict[str, Any]
    score: float  # the mean of PCK at both thresholds

    @property
    def flow(self) -> Flow:
        """The flow itself."""
        return KINDS[self.kind](**self.settings)


def candidates(study: Study, kind: Kind) -> Iterator[Flow]:
    """The defaults, then every combination of the settings that the study names."""
    default = KINDS[kind]()
    yield default
    grid: dict[str, tuple[Any, ...]] = getattr(study, kind)
    for values in itertools.product(*grid.values()):
        flow = KINDS[kind](**dict(zip(grid, values, strict=True)))
        if flow != default:
            yield flow


def tuned(space: Workspace, regime: str, kind: Kind, chained: bool) -> Tuned:
    """The best settings for a regime; found once for all seeds.

    Raises:
        RunError: what is there was chosen from other candidates.
    """
    path = space.shared / regime / f"{kind}-{'chained' if chained else 'direct'}.json"
    possible = list(candidates(space.study, kind))
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.get("candidates") != [asdict(flow) for flow in possible]:  # type: ignore[call-overload]
            raise RunError(
                f"{path}: was chosen from other candidates than {kind} now has; delete it, and "
                f"{path.parent / 'predictions' / kind}*.json with it"
            )
        return Tuned(**kept["best"])
    tasks = space.tasks("tune", regime)
    tried = [
        Tuned(kind, chained, asdict(flow), score(tasks, flow, chained))  # type: ignore[call-overload]
        for flow in track(possible, f"tuning {kind}", disable=not space.progress, transient=True)
    ]
    best = max(tried, key=lambda found: found.score)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    kept = {"candidates": [found.settings for found in tried], "best": asdict(best)}
    unfinished.write_text(json.dumps(kept), encoding="utf-8")
    os.replace(unfinished, path)
    return best


def learned(space: Workspace) -> tuple[str, Flow, int]:
    """Name, flow and number of parameters: RAFT where its weights are on this machine, else the small network."""
    weights = raft_weights()
    network: nn.Module
    if weights is None:
        name, network = "small flow network", space.flow_network()
    else:
        name, network = "RAFT", _Raft(weights).to(space.device)
    return name, LearnedFlow(network), sum(parameter.numel() for parameter in network.parameters())


def raft_weights() -> Path | None:
    """torchvision's RAFT weights in PyTorch's folder of downloads, if they are there; nothing is fetched."""
    from torchvision.models.optical_flow import Raft_Large_Weights

    path = Path(torch.hub.get_dir()) / "checkpoints" / Raft_Large_Weights.DEFAULT.url.rsplit("/", 1)[1]
    return path if path.is_file() else None


class _Raft(nn.Module):
    """RAFT (Teed and Deng, ECCV 2020; arXiv 2003.12039) on frames of any size, 0 to 1."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        from torchvision.models.optical_flow import raft_large

        self.network = raft_large()
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        height, width = first.shape[-2:]
        # It wants multiples of 8, and at least 128 for its pyramid.
        size = [max(-(-side // 8) * 8, 128) for side in (height, width)]
        padding = (0, size[1] - width, 0, size[0] - height)
        pair = [nn.functional.pad(2 * frames - 1, padding, mode="replicate") for frames in (first, second)]
        flow: Tensor = self.network(*pair)[-1]
        return flow[..., :height, :width]
