"""A user's file, as mypy sees it: never run."""

from torch import Tensor, nn
from torch.export import ExportedProgram
from typing_extensions import assert_type

import deformwarp
from deformwarp import DeformConv2d, FusedDeformWarp, FusionReport, deform_conv2d, fused_deform_warp


class Head(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.warp = FusedDeformWarp(channels, dilations=[1, (2, 3)], padding=[(1, 1), (2, 3)], scale=0.5)
        self.conv = DeformConv2d(channels, channels, (3, 3), padding=1)

    def forward(self, x: Tensor, offsets: list[Tensor], mask: Tensor | None = None) -> Tensor:
        warped = self.warp.forward(x, offsets)
        assert_type(warped, Tensor)
        assert_type(self.warp.offset_channels, int)
        return self.conv.forward(warped, offsets[0], mask)


def functions(x: Tensor, offsets: tuple[Tensor, ...], stacked: Tensor, weight: Tensor) -> None:
    assert_type(fused_deform_warp(x, offsets, weight, masks=offsets, stride=(1, 2)), Tensor)
    assert_type(fused_deform_warp(x, stacked, weight, None, dilations=(1,), padding=2, masks=stacked), Tensor)
    assert_type(deform_conv2d(x, stacked, weight[0], padding=(1, 2), mask=None), Tensor)


def models(model: nn.Module, convs: list[nn.Module]) -> None:
    report = deformwarp.fuse_deform_convs(model)
    assert_type(report, FusionReport)
    assert_type([one.layer for one in report.fused], list[str])
    assert_type(FusedDeformWarp.from_deform_convs(convs), FusedDeformWarp)
    with deformwarp.use_backend("reference"), deformwarp.use_isa("plain"):
        model.eval()
    assert_type(deformwarp.__version__, str)


def exports(model: nn.Module, arguments: tuple[Tensor, ...], program: ExportedProgram) -> None:
    deformwarp.onnx.export(model, arguments, "model.onnx")
    assert_type(deformwarp.aoti.compile_and_package(program, "model.pt2"), str)
