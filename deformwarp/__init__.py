"""deformwarp: PoseWarper's five dilated deformable convolutions and their sum, fused into one differentiable op."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from deformwarp.backends import use_backend
from deformwarp.functional import deform_conv2d, fused_deform_warp
from deformwarp.fuse import FusionReport, fuse_deform_convs, unfuse
from deformwarp.modules import DeformConv2d, FusedDeformWarp
from deformwarp.native import use_isa
from deformwarp.tuning import tune
from deformwarp.warp_head import WarpHead

__version__ = version("deformwarp")
__all__ = [
    "DeformConv2d",
    "FusedDeformWarp",
    "FusionReport",
    "WarpHead",
    "deform_conv2d",
    "fuse_deform_convs",
    "fused_deform_warp",
    "tune",
    "unfuse",
    "use_backend",
    "use_isa",
]

if TYPE_CHECKING:
    from deformwarp import aoti as aoti
    from deformwarp import onnx as onnx
else:

    def __getattr__(name):
        """The exporters' modules, loaded when they are first asked for: few programs export."""
        if name in ("aoti", "onnx"):
            return import_module(f"deformwarp.{name}")
        raise AttributeError(f"module 'deformwarp' has no attribute {name!r}")
