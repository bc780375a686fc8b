"""Heatmaps: joints to Gaussians, and back.

Positions are (x, y) in pixels of the heatmap, (0, 0) being the centre of its first pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Refinement = Literal["quarter", "parabola"]
REACH = 3  # sigmas: a Gaussian is drawn this far, and a blur reaches this far, as in the authors' code


def encode(keypoints: Tensor, visible: Tensor, size: Sequence[int], sigma: float) -> Tensor:
    """Draws a Gaussian of height 1 around every joint (paper, section 3: loss function).

    The Gaussian is centred on the position itself. The authors' code centres it on the nearest pixel, which moves
    every joint by up to half a pixel.

    Args:
        keypoints: [..., J, 2], (x, y) in heatmap pixels.
        visible: [..., J], joints with 0 get an empty heatmap. So do joints further than 3 sigma outside, and
            non-finite ones.
        size: (height, width) of the heatmap.
        sigma: in heatmap pixels; the paper's is 3 at 96 x 72.

    Returns:
        [..., J, height, width], in the dtype of ``keypoints``.

    Raises:
        ValueError: a shape, the size or sigma is impossible.

    >>> heatmap = encode(torch.tensor([[4.0, 2.0]]), torch.ones(1), (8, 6), sigma=1.0)
    >>> heatmap.shape, heatmap[0, 2, 4].item()
    (torch.Size([1, 8, 6]), 1.0)
    """
    if keypoints.shape[-1:] != (2,):
        raise ValueError(f"keypoints: is {list(keypoints.shape)}, but should be [..., J, 2]")
    if visible.shape != keypoints.shape[:-1]:
        raise ValueError(f"visible: is {list(visible.shape)}, but should be {list(keypoints.shape[:-1])}")
    height, width = size
    if height < 1 or width < 1 or not sigma > 0:
        raise ValueError(f"size and sigma: are {height} x {width} and {sigma}, but should be positive")
    x = torch.arange(width, dtype=keypoints.dtype, device=keypoints.device) - keypoints[..., :1]  # [..., J, W]
    y = torch.arange(height, dtype=keypoints.dtype, device=keypoints.device) - keypoints[..., 1:]  # [..., J, H]
    line_x, line_y = (torch.exp(-(axis**2) / (2 * sigma**2)) * (axis.abs() <= REACH * sigma) for axis in (x, y))
    drawn = (visible > 0) & keypoints.isfinite().all(-1)
    gaussian = line_y[..., :, None] * line_x[..., None, :]  # [..., J, H, W]
    return torch.where(drawn[..., None, None], gaussian, torch.zeros((), dtype=gaussian.dtype, device=gaussian.device))


def decode(heatmaps: Tensor, *, blur: float = 0.0, refinement: Refinement = "quarter") -> Tensor:
    """The position of each joint: its heatmap's maximum, refined below a pixel.

    Args:
        heatmaps: [..., J, H, W].
        blur: sigma in pixels of a Gaussian blur before; 0 for none. The score is that of the heatmap as it was.
        refinement: ``"quarter"``, a quarter of a pixel towards the higher neighbour (the authors' code), or
            ``"parabola"``, the vertex of a parabola through the logarithms of the maximum and its two neighbours,
            which is exact for a Gaussian.

    Returns:
        [..., J, 3]: (x, y) in heatmap pixels, and the value at the maximum as score.

    Raises:
        ValueError: there is no such refinement, or the heatmaps have fewer than three dimensions.

    >>> heatmap = encode(torch.tensor([[4.3, 2.0]]), torch.ones(1), (8, 9), sigma=1.0)
    >>> [round(value, 3) for value in decode(heatmap, refinement="parabola")[0].tolist()]
    [4.3, 2.0, 0.956]
    """
    if heatmaps.dim() < 3:
        raise ValueError(f"heatmaps: is {list(heatmaps.shape)}, but should be [..., J, H, W]")
    if refinement not in REFINEMENTS:
        raise ValueError(f"refinement: is {refinement!r}, but should be one of {', '.join(REFINEMENTS)}")
    smooth = blurred(heatmaps, blur)
    width = smooth.shape[-1]
    highest = smooth.flatten(-2).argmax(-1)  # [..., J]
    score = heatmaps.flatten(-2).gather(-1, highest[..., None])
    x, y = highest % width, highest // width
    rows = smooth.gather(-2, y[..., None, None].expand(*y.shape, 1, width)).squeeze(-2)  # [..., J, W]
    columns = smooth.gather(-1, x[..., None, None].expand(*x.shape, smooth.shape[-2], 1)).squeeze(-1)  # [..., J, H]
    refine = REFINEMENTS[refinement]
    return torch.stack([x + _refined(rows, x, refine), y + _refined(columns, y, refine), score.squeeze(-1)], dim=-1)


def blurred(heatmaps: Tensor, sigma: float) -> Tensor:
    """Heatmaps [..., H, W] after a Gaussian blur that takes what is outside as 0; unchanged for sigma = 0."""
    if sigma == 0:
        return heatmaps
    reach = max(1, round(REACH * sigma))
    line = torch.exp(-(torch.arange(-reach, reach + 1, device=heatmaps.device) ** 2) / (2 * sigma**2))
    line = (line / line.sum()).to(heatmaps.dtype)
    planes = heatmaps.reshape(-1, 1, *heatmaps.shape[-2:])
    planes = F.conv2d(planes, line.view(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(planes, line.view(1, 1, 1, -1), padding=(0, reach)).reshape(heatmaps.shape)


def _refined(line: Tensor, peak: Tensor, refine: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """What to add to the place of the maximum [..., J] along a line [..., J, L] through it; 0 at the border."""
    inner = (peak > 0) & (peak < line.shape[-1] - 1)
    around = [(peak + step).clamp(0, line.shape[-1] - 1)[..., None] for step in (-1, 0, 1)]
    before, here, after = (line.gather(-1, place).squeeze(-1) for place in around)
    shift = refine(before, here, after)
    return torch.where(inner & shift.isfinite(), shift, torch.zeros_like(shift))


def _quarter(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    return 0.25 * (after - before).sign()


def _parabola(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    smallest = torch.finfo(here.dtype).tiny
    before, here, after = (value.clamp_min(smallest).log() for value in (before, here, after))
    return (0.5 * (before - after) / (before - 2 * here + after)).clamp(-0.5, 0.5)


REFINEMENTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"quarter": _quarter, "parabola": _parabola}
