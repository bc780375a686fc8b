"""PoseWarper: a heatmap network, and the part that warps heatmaps from one frame to another (paper, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from deformwarp import WarpHead
from deformwarp.functional import DILATIONS
from posewarper_models.backbones import build_backbone


class WarpingPart(WarpHead):
    """From the difference of two frames' heatmaps to offsets, and a heatmap warped by them.

    It is a :class:`deformwarp.WarpHead` behind residual blocks, and like it starts as the identity for
    ``scale = 1 / D``. Where memory is short, set its ``memory = "low"``.

    Args:
        num_joints: J, channels of the heatmaps; each has offsets of its own.
        num_blocks: residual blocks of two 3x3 convolutions.
        channels: of the residual blocks.
        dilations: D dilations, of the offset convolutions and of the deformable convolutions alike.
        scale: factor of the sum over the dilations.
    """

    def __init__(self, num_joints: int, num_blocks: int, channels: int, dilations: Sequence[int], scale: float) -> None:
        super().__init__(channels, num_joints, dilations=dilations, scale=scale)
        entry = nn.Sequential(nn.Conv2d(num_joints, channels, kernel_size=1, bias=False), nn.BatchNorm2d(channels))
        self.offset_feats = nn.Sequential(
            BasicBlock(num_joints, channels, downsample=entry),
            *(BasicBlock(channels, channels) for _ in range(num_blocks - 1)),
        )

    @property
    def trained(self) -> bool:
        """Whether it has learnt to warp: the offset convolutions start at zero, where nothing moves."""
        return any(bool(parameter.any()) for parameter in self.offset_convs.parameters())

    def offsets(self, difference: Tensor) -> list[Tensor]:
        """D offset tensors [N, 2*9*J, H, W], (dy, dx) in heatmap pixels, of a difference [N, J, H, W]."""
        return super().offsets(self.offset_feats(difference))

    def forward(self, difference: Tensor, heatmap: Tensor) -> Tensor:
        """``heatmap`` [N, J, H, W], warped by the offsets that ``difference`` [N, J, H, W] predicts."""
        return super().forward(self.offset_feats(difference), heatmap)


class PoseWarper(nn.Module):
    """The paper's network; :func:`build_posewarper` makes one.

    Frames are RGB, normalised by ImageNet's mean and standard deviation.

    Args:
        backbone: maps frames [N, 3, H, W] to heatmaps [N, J, h, w].
        warping: maps a difference of heatmaps and a heatmap to the warped heatmap.
        architecture: the arguments of :func:`build_posewarper`, as plain data, which a checkpoint keeps.
    """

    def __init__(self, backbone: nn.Module, warping: WarpingPart, architecture: Mapping[str, Any]) -> None:
        super().__init__()
        self.backbone = backbone
        self.warping = warping
        self.architecture = dict(architecture)

    @property
    def num_joints(self) -> int:
        """J."""
        return self.warping.warp.channels

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the crops that it was made for."""
        height, width = self.architecture["image_size"]
        return height, width

    @property
    def sigma(self) -> float:
        """Of its target Gaussians, in heatmap pixels."""
        return float(self.architecture["sigma"])

    def heatmaps(self, frames: Tensor) -> Tensor:
        """Heatmaps of single frames.

        Args:
            frames: [N, 3, H, W].

        Returns:
            [N, J, h, w].

        Raises:
            ValueError: ``frames`` has another shape, or the backbone returns something else.
        """
        _check_frames("frames", frames)
        found: Tensor = self.backbone(frames)
        if found.dim() != 4 or found.shape[:2] != (frames.shape[0], self.num_joints):
            raise ValueError(
                f"backbone: returned {list(found.shape)}, but should return heatmaps "
                f"[{frames.shape[0]}, {self.num_joints}, h, w]"
            )
        return found

    def forward(self, reference: Tensor, support: Tensor) -> Tensor:
        """The heatmap of ``reference``, sampled from that of ``support``: g_AB of the paper.

        Args:
            reference: frame A, [N, 3, H, W], whose pose is wanted.
            support: frame B, [N, 3, H, W], whose heatmap is warped.

        Returns:
            [N, J, h, w].

        Raises:
            ValueError: the frames have other or different shapes.
        """
        f_reference, f_support = self._pair("reference", reference, "support", support)
        return self.warped(f_reference, f_support)

    def propagate(self, labelled: Tensor, unlabelled: Tensor, heatmap: Tensor) -> Tensor:
        """A labelled frame's heatmap, warped to an unlabelled frame (paper, section 3: pose annotation propagation).

        Args:
            labelled: frame A, [N, 3, H, W].
            unlabelled: frame B, [N, 3, H, W].
            heatmap: y_A [N, J, h, w], drawn around the labels of A.

        Returns:
            [N, J, h, w], the heatmap of B.

        Raises:
            ValueError: the frames have other or different shapes, or the heatmap is not of their heatmaps' shape.
        """
        f_labelled, f_unlabelled = self._pair("labelled", labelled, "unlabelled", unlabelled)
        if heatmap.shape != f_labelled.shape:
            raise ValueError(f"heatmap: is {list(heatmap.shape)}, but should be {list(f_labelled.shape)}")
        return self.warped(f_unlabelled, f_labelled, heatmap)

    def aggregate(self, reference: Tensor, supports: Tensor, weights: Sequence[float] | Tensor) -> Tensor:
        """The weighted sum of the supporting frames' heatmaps, each warped to the reference (paper, section 3:
        spatiotemporal pose aggregation). The reference itself (delta = 0) counts only if it is among the supports.

        Args:
            reference: [N, 3, H, W].
            supports: [N, F, 3, H, W].
            weights: F weights.

        Returns:
            [N, J, h, w].

        Raises:
            ValueError: a shape is another, or there are not as many weights as supporting frames.
        """
        _check_frames("reference", reference)
        n, frames = reference.shape[0], supports.shape[1] if supports.dim() == 5 else 0
        if frames == 0 or supports.shape != (n, frames, *reference.shape[1:]):
            expected = f"[{n}, F, {', '.join(map(str, reference.shape[1:]))}]"
            raise ValueError(f"supports: is {list(supports.shape)}, but should be {expected} with F > 0")
        if len(weights) != frames:
            raise ValueError(f"weights: are {len(weights)}, but should be {frames}, as many as supports")
        together = torch.cat([reference, supports.flatten(0, 1)])
        f_reference, f_supports = self.heatmaps(together).split([n, n * frames])
        repeated = f_reference.repeat_interleave(frames, dim=0)
        warped = self.warped(repeated, f_supports).unflatten(0, (n, frames))
        factors = torch.as_tensor(weights).to(warped)
        aggregated: Tensor = (warped * factors.view(frames, 1, 1, 1)).sum(dim=1)
        return aggregated

    def warped(self, target: Tensor, source: Tensor, heatmap: Tensor | None = None) -> Tensor:
        """``heatmap``, or ``source`` where None, warped from the source frame to the target frame.

        Everything else here is a case of this: use it where heatmaps are there already.

        Args:
            target: [N, J, h, w], of the frame that is warped to. The offsets come from ``target - source``.
            source: [N, J, h, w], of the frame that is warped from.
            heatmap: [N, J, h, w].

        Returns:
            [N, J, h, w].
        """
        warped: Tensor = self.warping(target - source, source if heatmap is None else heatmap)
        return warped

    def _pair(self, first_name: str, first: Tensor, second_name: str, second: Tensor) -> tuple[Tensor, Tensor]:
        """Heatmaps of two batches of frames, computed together."""
        _check_frames(first_name, first)
        if second.shape != first.shape:
            raise ValueError(
                f"{second_name}: is {list(second.shape)}, but should be {list(first.shape)}, as {first_name}"
            )
        both = self.heatmaps(torch.cat([first, second]))
        return both[: first.shape[0]], both[first.shape[0] :]  # ONNX's optimiser cannot split a batch of any size


def build_posewarper(
    backbone: str | nn.Module = "hrnet_w48",
    *,
    num_joints: int = 17,
    num_blocks: int = 20,
    channels: int = 128,
    dilations: Sequence[int] = DILATIONS,
    scale: float | None = None,
    pretrained: bool = False,
    backbone_settings: Mapping[str, Any] | None = None,
    image_size: Sequence[int] = (384, 288),
    sigma: float = 3.0,
) -> PoseWarper:
    """The paper's network, or one of another size.

    Args:
        backbone: a timm name, or a module from images to heatmaps; see
            :func:`posewarper_models.backbones.build_backbone`.
        num_joints: J; PoseTrack has 17.
        num_blocks: residual blocks of the warping part.
        channels: of these blocks.
        dilations: of the offset convolutions and of the warp.
        scale: factor of the warp's sum. None for 1/D, which the authors' code has: the network then starts from
            "warped = input". The paper's formula says 1.
        pretrained: whether timm fetches ImageNet weights for the backbone.
        backbone_settings: further arguments of the backbone.
        image_size: height and width of the crops that it is meant for, multiples of 32. The network takes others too;
            inference and checkpoints go by it.
        sigma: of the target Gaussians in heatmap pixels, likewise.

    Returns:
        The network, in training mode, its warping part the identity.

    Raises:
        ValueError: a count or size is not positive, or timm does not know the backbone.

    >>> model = build_posewarper("resnet10t", num_blocks=2, channels=8, backbone_settings={"width": 16}).eval()
    >>> frames = torch.rand(2, 3, 64, 64)
    >>> torch.allclose(model(frames, frames), model.heatmaps(frames), atol=1e-6)
    True
    """
    for name, value in (("num_joints", num_joints), ("num_blocks", num_blocks), ("channels", channels)):
        if value < 1:
            raise ValueError(f"{name}: is {value}, but should be at least 1")
    if not dilations or min(dilations) < 1:
        raise ValueError(f"dilations: are {tuple(dilations)}, but should be one or more, each at least 1")
    if len(image_size) != 2 or any(side < 32 or side % 32 for side in image_size) or not sigma > 0:
        raise ValueError(
            f"image_size: is {tuple(image_size)} and sigma {sigma}, but should be multiples of 32, and > 0"
        )
    scale = 1 / len(dilations) if scale is None else scale
    architecture = {
        "backbone": backbone if isinstance(backbone, str) else None,
        "num_joints": num_joints,
        "num_blocks": num_blocks,
        "channels": channels,
        "dilations": list(dilations),
        "scale": scale,
        "backbone_settings": dict(backbone_settings or {}),
        "image_size": list(image_size),
        "sigma": sigma,
    }
    network = build_backbone(backbone, num_joints, pretrained=pretrained, settings=backbone_settings)
    return PoseWarper(network, WarpingPart(num_joints, num_blocks, channels, dilations, scale), architecture)


def _check_frames(name: str, frames: Tensor) -> None:
    if frames.dim() != 4 or frames.shape[1] != 3:
        raise ValueError(f"{name}: is {list(frames.shape)}, but should be [N, 3, H, W]")
    if not frames.is_floating_point():
        raise ValueError(f"{name}: is {frames.dtype}, but should be floating point, normalised")
