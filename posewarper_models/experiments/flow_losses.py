"""What the learned flow is trained by, all of it without labels.

First by flows that are known, because frames are warped by them, as FlowNet is by its chairs (Dosovitskiy et al., ICCV
2015; arXiv 1504.06852): from these a network learns to match. Then by pairs of frames, as UnFlow (Meister et al., AAAI
2018; arXiv 1711.07837): the second frame, warped by the flow, should look like the first by the census transform. In a
trial of 150 steps a fresh network learned next to nothing from the second alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from posewarper_models.experiments.flow_network import FlowNetwork, resized, warped

CENSUS_WINDOW = 7  # pixels
CENSUS_STEP = 2  # the frames' flow is judged at half their resolution, where noise is half as strong
COARSE = 0.5  # weight of every coarser level
SMOOTHNESS = 0.01  # weight of the flow's roughness, pixels
EDGES = 150.0  # how much less the flow needs to be smooth where the image is not
OCTAVES = ((2, 8.0), (4, 6.0), (8, 4.0), (16, 2.0))  # cells a side and deviation (pixels) of known flows
NOISE = 0.02  # of the frames, 0 to 1, so that known pairs differ as frames of a video do


def known_pairs(frames: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """First and second frames [N, 3, H, W] and the flow between them [N, 2, H, W], smooth, from 0 to tens of pixels."""
    count, size = len(frames), frames.shape[-2:]
    strength = torch.rand(count, 1, 1, 1, generator=rng)
    flow = torch.zeros(count, 2, *size)
    for cells, deviation in OCTAVES:
        coarse = deviation * torch.randn(count, 2, cells, cells, generator=rng)
        flow = flow + strength * F.interpolate(coarse, size=size, mode="bicubic")
    first, second = (
        (each + NOISE * torch.randn(each.shape, generator=rng)).clamp(0, 1) for each in (warped(frames, flow), frames)
    )
    return first, second, flow


def known_flow_loss(network: FlowNetwork, first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
    """The end-point error in pixels of the frames, where the flow stays in the frame; the mean of all levels."""
    seen = _inside(flow)
    losses = []
    for found in network.by_level(first, second)[:-1]:  # the last one is the one before, enlarged
        wanted, weights = (F.interpolate(each, size=found.shape[-2:], mode="area") for each in (flow, seen))
        scale = flow.shape[-1] / found.shape[-1]
        errors = (scale * found - wanted).square().sum(dim=1, keepdim=True)
        losses.append(_mean((errors + 1e-4).sqrt(), weights))
    return torch.stack(losses).mean()


def unsupervised_loss(network: FlowNetwork, first: Tensor, second: Tensor) -> Tensor:
    """How badly the network's flow, both ways, explains two batches of frames [N, 3, H, W]."""
    *coarse, finest = network.by_level(torch.cat([first, second]), torch.cat([second, first]))
    halved = [side // CENSUS_STEP for side in first.shape[-2:]]
    loss = _both_ways(first, second, resized(finest, halved))
    for flow in coarse:
        if min(flow.shape[-2:]) > CENSUS_WINDOW:
            loss = loss + COARSE * _both_ways(first, second, flow)
    return loss


def census_error(first: Tensor, second: Tensor, seen_by: Tensor, flow: Tensor) -> Tensor:
    """The mean census distance of frames [N, 3, H, W] under a flow [N, 2, H, W], where ``seen_by`` stays inside."""
    return _mean(census_distance(first, warped(second, flow)), _inside(seen_by))


def _both_ways(first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
    """Of flows there, then back [2N, 2, h, w], at their resolution."""
    small = [F.interpolate(frames, size=flow.shape[-2:], mode="area") for frames in (first, second)]
    ours, theirs = torch.cat(small), torch.cat(small[::-1])
    difference = census_distance(ours, warped(theirs, flow))
    return _mean(difference, _inside(flow.detach())) + SMOOTHNESS * _roughness(flow, ours)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)


def _inside(flow: Tensor) -> Tensor:
    """[N, 1, H, W], 0 where the flow leaves the frame."""
    return (warped(torch.ones_like(flow[:, :1]), flow) > 0.99).to(flow)


def census_distance(first: Tensor, second: Tensor) -> Tensor:
    """[N, 1, H, W], 0 to 1: the share of neighbours that are brighter or darker otherwise; differentiable.

    >>> image = torch.rand(1, 3, 16, 16)
    >>> census_distance(image, 0.5 * image + 0.2).max() < census_distance(image, image.flip(-1)).mean()
    tensor(True)
    """
    gap = (_census(first) - _census(second)).square()
    return (gap / (0.1 + gap)).mean(dim=1, keepdim=True)


def _census(frames: Tensor) -> Tensor:
    """[N, 49, H, W], each neighbour's brightness against the pixel's, softly -1 to 1."""
    grey = 255 * frames.mean(dim=1, keepdim=True)
    reach = CENSUS_WINDOW // 2
    height, width = grey.shape[-2:]
    around = F.pad(grey, (reach,) * 4, mode="replicate")
    steps = range(CENSUS_WINDOW)
    neighbours = torch.cat([around[..., dy : dy + height, dx : dx + width] for dy in steps for dx in steps], dim=1)
    difference = neighbours - grey
    return difference / torch.sqrt(0.81 + difference.square())


def _roughness(flow: Tensor, frames: Tensor) -> Tensor:
    """The mean step of the flow between neighbours, where the image has no edge."""
    total = torch.zeros((), device=flow.device, dtype=flow.dtype)
    for axis in (-1, -2):
        edges = frames.diff(dim=axis).square().mean(dim=1, keepdim=True)
        total = total + (torch.exp(-EDGES * edges) * (flow.diff(dim=axis).square() + 1e-6).sqrt()).mean()
    return total
