"""Section 4.1: how many parameters the motion costs, warping part against learned flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from torch import nn

from deformwarp.functional import DILATIONS
from posewarper_models.experiments.flow_network import FlowNetwork
from posewarper_models.experiments.results import Result
from posewarper_models.experiments.tables import Page, table
from posewarper_models.experiments.workspace import Workspace
from posewarper_models.network import WarpingPart

# Section 4.1 of the paper, millions.
PAPER = {"blocks": 5.8, "flow": 39.0}


def measure(space: Workspace) -> dict[str, Any]:
    """Counts parameters; nothing is trained."""
    from torchvision.models.optical_flow import raft_large, raft_small

    model, flow = space.study.model, space.study.flow_network
    ours = WarpingPart(model.num_joints, model.num_blocks, model.channels, space.study.dilations["main"], 1.0)
    paper = WarpingPart(17, 20, 128, DILATIONS, 1.0)
    return {
        "warping part of this configuration": _parts(ours),
        "warping part of the paper": _parts(paper),
        "small flow network": {"all": parameters(FlowNetwork(flow.channels, flow.reach, flow.width))},
        "RAFT, small": {"all": parameters(raft_small())},
        "RAFT": {"all": parameters(raft_large())},
    }


def parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def _parts(part: WarpingPart) -> dict[str, int]:
    counts = {
        "residual blocks": parameters(part.offset_feats),
        "offset convolutions": parameters(part.offset_convs),
        "deformable convolutions": parameters(part.warp),
    }
    return {**counts, "all": sum(counts.values())}


def section(results: Sequence[Result], page: Page) -> str:
    """Markdown, with a figure."""
    counted = results[0].measured
    columns = ("residual blocks", "offset convolutions", "deformable convolutions", "all")
    rows = [
        [name, *(f"{parts[column] / 1e6:.2f}" if column in parts else "-" for column in columns)]
        for name, parts in counted.items()
    ]
    text = (
        f"The paper counts {PAPER['blocks']} M for its residual blocks, and {PAPER['flow']:.0f} M for FlowNet2. "
        "Parameters, millions:"
    )
    return "\n\n".join([page.shown(_figure(counted), "compactness", "Parameters"), text, table(["", *columns], rows)])


def _figure(counted: dict[str, dict[str, int]]) -> Figure:
    figure = Figure(figsize=(7, 2.4), layout="constrained")
    cell = figure.subplots()
    cell.barh(list(counted), [parts["all"] / 1e6 for parts in counted.values()])
    cell.set(xlabel="parameters, millions")
    cell.invert_yaxis()
    return figure
