"""Exports to ONNX hold standard DeformConv nodes, and onnxruntime computes the same numbers from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

pytest.importorskip("onnxscript")
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

import deformwarp
import deformwarp.onnx as deformwarp_onnx

ANY = torch.export.Dim.DYNAMIC
ANY_BATCH_AND_SIZE = {0: ANY, 2: ANY, 3: ANY}
Arguments = tuple[Any, ...]


def randomised(model: nn.Module, std: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)
    return model


@dataclass(frozen=True)
class Exported:
    """A model, its ONNX file, and arguments of the exported and of other sizes."""

    model: nn.Module
    path: Path
    arguments: Sequence[Arguments]
    warp: dict[str, int]  # the operators that a warp should become, and how many

    @property
    def nodes(self) -> Counter[str]:
        return Counter(node.op_type for node in onnx.load(self.path).graph.node)

    def feeds(self, arguments: Arguments) -> dict[str, numpy.ndarray[Any, Any]]:
        inputs = onnx.load(self.path).graph.input
        return {one.name: leaf.numpy() for one, leaf in zip(inputs, tree_leaves(arguments), strict=True)}

    def by_onnxruntime(self, arguments: Arguments) -> Tensor:
        session = onnxruntime.InferenceSession(self.path, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, self.feeds(arguments))[0])


def exported(
    folder: Path,
    model: nn.Module,
    arguments: Sequence[Arguments],
    warp: dict[str, int],
    dynamic_shapes: Any = None,
) -> Exported:
    path = folder / "model.onnx"
    deformwarp_onnx.export(model, arguments[0], path, dynamic_shapes=dynamic_shapes, verbose=False)
    return Exported(model.eval(), path, arguments, warp)


def convolution(folder: Path) -> Exported:
    """Lopsided in everything, so that no pair of numbers can be exchanged."""
    model = randomised(deformwarp.DeformConv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 3), groups=2))
    arguments = (torch.rand(2, 4, 9, 7), 2 * torch.randn(2, 24, 5, 8), torch.rand(2, 12, 5, 8))
    return exported(folder, model, [arguments], {"DeformConv": 1})


def fused(folder: Path) -> Exported:
    """Masks, bias, scale and groups; any batch and size."""
    model = randomised(deformwarp.FusedDeformWarp(4, dilations=(1, 2), groups=2, bias=True, scale=0.5))

    def arguments(*size: int) -> Arguments:
        offsets = [2 * torch.randn(size[0], 72, *size[1:]) for _ in range(2)]
        return torch.rand(size[0], 4, *size[1:]), offsets, [torch.rand(size[0], 36, *size[1:]) for _ in range(2)]

    dynamic = (ANY_BATCH_AND_SIZE, [ANY_BATCH_AND_SIZE] * 2, [ANY_BATCH_AND_SIZE] * 2)
    return exported(folder, model, [arguments(2, 9, 7), arguments(3, 6, 11)], {"DeformConv": 2, "Sum": 1}, dynamic)


def head(folder: Path) -> Exported:
    model = randomised(deformwarp.WarpHead(5, 3, dilations=(1, 2), memory="low"))
    return exported(folder, model, [(torch.rand(2, 5, 8, 7), torch.rand(2, 3, 8, 7))], {"DeformConv": 2, "Add": 1})


def posewarper(folder: Path) -> Exported:
    """Frames in, heatmap out; any batch and size."""
    from posewarper_models import build_posewarper

    backbone = nn.Sequential(nn.Conv2d(3, 5, 3, stride=4, padding=1), nn.BatchNorm2d(5), nn.ReLU())
    model = build_posewarper(backbone, num_joints=5, num_blocks=1, channels=8, dilations=(1, 2, 3))
    for conv in model.warping.offset_convs:
        nn.init.normal_(conv.weight)
    arguments = [tuple(torch.rand(2, *size)) for size in ((2, 3, 32, 28), (3, 3, 40, 48))]
    return exported(folder, model, arguments, {"DeformConv": 3, "Sum": 1}, (ANY_BATCH_AND_SIZE, ANY_BATCH_AND_SIZE))


MODELS = {"DeformConv2d": convolution, "FusedDeformWarp": fused, "WarpHead": head, "PoseWarper": posewarper}


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS)
def export(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    result: Exported = request.param(tmp_path_factory.mktemp("onnx"))
    return result


@pytest.mark.slow
def test_onnxruntime_computes_the_same(export: Exported) -> None:
    for arguments in export.arguments:
        with torch.no_grad():
            expected = export.model(*arguments)
        torch.testing.assert_close(export.by_onnxruntime(arguments), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_file_is_valid_and_holds_standard_operators_only(export: Exported) -> None:
    model = onnx.load(export.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 19)]
    assert not model.functions


@pytest.mark.slow
def test_a_warp_is_one_deform_conv_a_dilation_and_their_sum(export: Exported) -> None:
    assert {name: export.nodes[name] for name in export.warp} == export.warp


@pytest.mark.slow
def test_onnx_itself_reads_the_offsets_in_our_order(tmp_path: Path) -> None:
    """ONNX's own evaluator, which is written by the standard's text; (dy, dx) of the first tap differ."""
    warp = deformwarp.FusedDeformWarp(1, kernel_size=1, dilations=(1,))
    input = torch.arange(12.0).reshape(1, 1, 3, 4)
    offset = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 4).clone()
    found = exported(tmp_path, warp, [(input, [offset])], {"DeformConv": 1})
    (by_onnx,) = ReferenceEvaluator(str(found.path)).run(None, found.feeds((input, [offset])))
    assert by_onnx[0, 0, 0, 0] == input[0, 0, 1, 2] == warp(input, [offset])[0, 0, 0, 0]


@pytest.mark.slow
def test_the_table_serves_torchs_own_export() -> None:
    conv = deformwarp.DeformConv2d(2, 3, 3, padding=1).eval()
    program = torch.onnx.export(
        conv,
        (torch.rand(1, 2, 5, 4), torch.rand(1, 18, 5, 4)),
        opset_version=20,
        custom_translation_table=deformwarp_onnx.translation_table(),
        verbose=False,
    )
    assert program is not None
    assert [node.op_type for node in program.model.graph] == ["DeformConv"]
    assert program.model.opset_imports[""] == 20


# ---- what cannot be


CONV = deformwarp.DeformConv2d(1, 1, 1)
CONV_ARGUMENTS = (torch.rand(1, 1, 2, 2), torch.zeros(1, 2, 2, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opset_version": 18}, "opset_version: is 18, but should be at least 19, the first with DeformConv"),
        ({"dynamo": False}, "dynamo: is set by this function; call torch.onnx.export with translation_table"),
        ({"custom_translation_table": {}}, "custom_translation_table: is set by this function"),
    ],
    ids=["opset", "dynamo", "table"],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        deformwarp_onnx.export(CONV, CONV_ARGUMENTS, tmp_path / "x.onnx", **options)


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"x\.onnx: exists already; name another file, or pass overwrite=True"):
        deformwarp_onnx.export(CONV, CONV_ARGUMENTS, path)
    assert path.read_text() == "mine"


@pytest.mark.slow
def test_the_scale_of_a_float64_model_is_float64(tmp_path: Path) -> None:
    model = randomised(deformwarp.FusedDeformWarp(1, kernel_size=1, dilations=(1,), scale=1 / 5).double())
    arguments = (torch.rand(1, 1, 4, 3).double(), [torch.randn(1, 2, 4, 3).double()])
    export = exported(tmp_path, model, [arguments], {"DeformConv": 1})
    with torch.no_grad():
        torch.testing.assert_close(export.by_onnxruntime(arguments), model(*arguments), rtol=1e-14, atol=1e-14)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deformwarp_onnx, "find_spec", lambda name: None if name == "onnxscript" else find_spec(name))
    with pytest.raises(ImportError, match=r"ONNX export needs onnxscript: pip install 'deformwarp\[onnx\]'"):
        deformwarp_onnx.translation_table()


def test_a_failed_export_leaves_the_modes_of_the_modules(tmp_path: Path) -> None:
    model = nn.ModuleList([deformwarp.DeformConv2d(1, 1, 1), deformwarp.DeformConv2d(1, 1, 1).eval()])
    with pytest.raises(Exception, match="forward"):
        deformwarp_onnx.export(model, CONV_ARGUMENTS, tmp_path / "x.onnx", verbose=False)
    assert [one.training for one in (model, *model)] == [True, True, False]
