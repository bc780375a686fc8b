"""AOTInductor packages: compiled once, loaded and run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import deformwarp
from deformwarp import aoti

ANY = torch.export.Dim.DYNAMIC


class Warps(nn.Module):
    """One warp without masks and one with masks."""

    def __init__(self) -> None:
        super().__init__()
        self.without = deformwarp.FusedDeformWarp(2, dilations=(1, 2), scale=0.5)
        self.masked = deformwarp.FusedDeformWarp(2, dilations=(1,), bias=True)

    def forward(self, x: Tensor, offsets: list[Tensor], mask: Tensor) -> Tensor:
        return self.masked(self.without(x, offsets), offsets[:1], [mask])


def _inputs(batch: int, height: int, width: int) -> tuple[Tensor, list[Tensor], Tensor]:
    offsets = [2 * torch.randn(batch, 36, height, width) for _ in range(2)]
    return torch.rand(batch, 2, height, width), offsets, torch.rand(batch, 18, height, width)


def _program(model: nn.Module) -> torch.export.ExportedProgram:
    sizes = {0: ANY, 2: ANY, 3: ANY}
    with torch.no_grad():
        return torch.export.export(model, _inputs(3, 7, 6), dynamic_shapes=(sizes, [sizes, sizes], sizes))


@pytest.mark.slow
def test_a_package_computes_the_same_for_every_batch_and_size(tmp_path: Path) -> None:
    model = Warps().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    path = aoti.compile_and_package(_program(model), tmp_path / "warps.pt2")
    loaded = torch._inductor.aoti_load_package(path)
    for size in ((3, 7, 6), (4, 9, 11)):
        inputs = _inputs(*size)
        with torch.no_grad():
            torch.testing.assert_close(loaded(*inputs), model(*inputs))


def test_warps_without_masks_go_by_an_operator_without_masks() -> None:
    problem = _inputs(2, 5, 4)
    layer = deformwarp.FusedDeformWarp(2, dilations=(1, 2))
    output = torch.ops.deformwarp.warp_unmasked(
        problem[0], problem[1], layer.weight.detach(), None, [1, 1], [1, 1, 2, 2], [1, 1, 2, 2], 1.0
    )
    torch.testing.assert_close(output, layer(*problem[:2]))


def test_what_is_no_exported_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"program: is a Warps, but should be an ExportedProgram, from torch\.export"):
        aoti.compile_and_package(Warps(), tmp_path / "x.pt2")  # type: ignore[arg-type]


def test_a_path_is_checked_before_anything_is_compiled(tmp_path: Path) -> None:
    program = _program(Warps().eval())
    with pytest.raises(ValueError, match=r"path: is '.*x\.so', but should end in \.pt2"):
        aoti.compile_and_package(program, tmp_path / "x.so")
    path = tmp_path / "x.pt2"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"x\.pt2: exists already; name another file, or pass overwrite=True"):
        aoti.compile_and_package(program, path)
    assert path.read_text() == "mine"
