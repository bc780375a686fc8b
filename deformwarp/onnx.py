"""Export to ONNX: a warp becomes one standard ``DeformConv`` node for each dilation, and their ``Sum``.

Offsets and masks go over as they are: ONNX lays them out as torchvision does, [N, G, Kh, Kw, (dy, dx), Ho, Wo].
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

OLDEST_OPSET = 19  # the first that has DeformConv


def _require_onnxscript() -> None:
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ImportError(f"ONNX export needs {' and '.join(missing)}: pip install 'deformwarp[onnx]'")


def _warp(
    input: Any,
    offsets: Sequence[Any],
    masks: Sequence[Any],
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    scale: float,
) -> Any:
    """``deformwarp::warp`` in ONNX's operators."""
    import onnx
    import onnxscript

    op: Any = onnxscript.opset19
    branches, _, group_channels, *kernel = weight.shape
    exact = onnx.helper.make_tensor("scale", onnx.TensorProto.DOUBLE, [], [scale])  # value_float would be float32
    factors = weight if scale == 1 else op.Mul(weight, op.CastLike(op.Constant(value=exact), weight))
    parts = [
        op.DeformConv(
            input,
            op.Gather(factors, op.Constant(value_int=d), axis=0),
            offsets[d],
            bias if d == 0 else None,
            masks[d] if masks else None,
            dilations=list(dilation[2 * d : 2 * d + 2]),
            group=input.shape[1] // group_channels,
            kernel_shape=kernel,
            offset_group=offsets[d].shape[1] // (2 * kernel[0] * kernel[1]),
            pads=[*padding[2 * d : 2 * d + 2], *padding[2 * d : 2 * d + 2]],
            strides=list(stride),
        )
        for d in range(branches)
    ]
    return parts[0] if branches == 1 else op.Sum(*parts)


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What ``torch.onnx.export`` has to know about the warp: its ``custom_translation_table``.

    Returns:
        A table for ``torch.onnx.export(..., dynamo=True, opset_version=19)``, or a later opset.

    Raises:
        ImportError: the packages of the extra ``onnx`` are not installed.
    """
    _require_onnxscript()
    return {torch.ops.deformwarp.warp.default: _warp}


def export(
    model: nn.Module,
    args: tuple[Any, ...],
    path: str | os.PathLike[str],
    *,
    opset_version: int = OLDEST_OPSET,
    overwrite: bool = False,
    **options: Any,
) -> None:
    """Writes a model that holds warps as ONNX, in evaluation mode whatever mode it is in.

    ``torch.onnx.export`` with :func:`translation_table`, which is what to use where its other results are wanted.

    Args:
        model: any module that ``torch.export`` can trace, on the CPU. onnxruntime runs float32 and float64 there.
        args: example inputs; sizes are fixed but for ``dynamic_shapes``.
        path: of the file.
        opset_version: of the standard operators, at least 19.
        overwrite: whether a file that is there is replaced.
        options: further arguments of ``torch.onnx.export``, such as ``dynamic_shapes`` and ``input_names``.

    Raises:
        ImportError: the packages of the extra ``onnx`` are not installed.
        ValueError: the opset has no DeformConv, or ``options`` say what is not to be chosen.
        FileExistsError: there is a file already.

    >>> import tempfile
    >>> import deformwarp
    >>> head = deformwarp.WarpHead(8, 2, dilations=(1, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(head, (torch.rand(1, 8, 6, 5), torch.rand(1, 2, 6, 5)), f"{folder}/head.onnx", verbose=False)
    """
    _require_onnxscript()
    if opset_version < OLDEST_OPSET:
        raise ValueError(
            f"opset_version: is {opset_version}, but should be at least {OLDEST_OPSET}, the first with DeformConv"
        )
    for name in ("dynamo", "custom_translation_table"):
        if name in options:
            raise ValueError(
                f"{name}: is set by this function; call torch.onnx.export with translation_table() instead"
            )
    if os.path.exists(path) and not overwrite:
        raise FileExistsError(f"{os.fspath(path)}: exists already; name another file, or pass overwrite=True")
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            torch.onnx.export(
                model,
                args,
                path,
                dynamo=True,
                opset_version=opset_version,
                custom_translation_table=translation_table(),
                **options,
            )
    finally:
        for module, training in modes.items():
            module.training = training
