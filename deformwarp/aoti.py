"""AOTInductor packages: a compiled model in one file, which runs without its Python source."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch.export import ExportedProgram


def _without_empty_masks(*args: Any) -> Any:
    """The warp by the operator that has no masks, where there are none."""
    input, offsets, masks, weight, bias, *geometry = args
    if masks:
        return NotImplemented
    return torch.ops.deformwarp.warp_unmasked(input, offsets, weight, bias, *geometry)


def compile_and_package(
    program: ExportedProgram,
    path: str | os.PathLike[str],
    *,
    inductor_configs: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> str:
    """``torch._inductor.aoti_compile_and_package`` for a program that holds warps.

    Packages pass a list without tensors on as None, which operators refuse. Warps without masks therefore go by an
    operator without them. Load the package with ``torch._inductor.aoti_load_package`` where deformwarp is imported.

    Args:
        program: from ``torch.export.export``, made without gradients.
        path: of the package; ends in ``.pt2``.
        inductor_configs: as of ``aoti_compile_and_package``.
        overwrite: whether a file that is there is replaced.

    Returns:
        The path.

    Raises:
        TypeError: ``program`` is no exported program.
        ValueError: the path does not end in ``.pt2``.
        FileExistsError: there is a file already.

    Example, which needs a C++ compiler::

        program = torch.export.export(model.eval(), example_inputs)
        deformwarp.aoti.compile_and_package(program, "model.pt2")
        model = torch._inductor.aoti_load_package("model.pt2")
    """
    if not isinstance(program, ExportedProgram):
        raise TypeError(
            f"program: is a {type(program).__name__}, but should be an ExportedProgram, from torch.export.export"
        )
    path = os.fspath(path)
    if not path.endswith(".pt2"):
        raise ValueError(f"path: is {path!r}, but should end in .pt2")
    if os.path.exists(path) and not overwrite:
        raise FileExistsError(f"{path}: exists already; name another file, or pass overwrite=True")
    from torch._inductor import aoti_compile_and_package  # loads a compiler: not with the package

    program = program.run_decompositions({torch.ops.deformwarp.warp.default: _without_empty_masks})
    package: str = aoti_compile_and_package(program, package_path=path, inductor_configs=inductor_configs)
    return package
