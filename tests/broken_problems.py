"""For every rule of deformwarp/rules.py a problem that breaks it, and what its message should say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Arguments = dict[str, Any]  # of the operator


def valid_arguments() -> Arguments:
    """Two branches, two groups of the weight, two offset groups, masks and bias; output size 6 x 5."""
    return {
        "input": torch.rand(2, 4, 6, 5),
        "offsets": [torch.rand(2, 36, 6, 5) for _ in range(2)],
        "masks": [torch.rand(2, 18, 6, 5) for _ in range(2)],
        "weight": torch.rand(2, 6, 2, 3, 3),
        "bias": torch.rand(6),
        "stride": [1, 1],
        "padding": [1, 1, 2, 2],
        "dilation": [1, 1, 2, 2],
        "grad_output": torch.rand(2, 6, 6, 5),
    }


@dataclass(frozen=True)
class Broken:
    """One change to the valid arguments, and the parts that the message must have."""

    rule: str
    change: Callable[[Arguments], None]
    argument: str
    had: str
    should: str
    error: type[Exception] = ValueError


def _set(argument: str, value: Any, number: int | None = None) -> Callable[[Arguments], None]:
    def change(arguments: Arguments) -> None:
        made = value() if callable(value) else value
        if number is None:
            arguments[argument] = made
        else:
            arguments[argument][number] = made

    return change


def _shape(*sizes: int) -> Callable[[], Tensor]:
    return lambda: torch.rand(sizes)


def _like(argument: str, number: int | None, **change: Any) -> Callable[[Arguments], None]:
    """The same tensor of another dtype, or on another device."""

    def apply(arguments: Arguments) -> None:
        if number is None:
            arguments[argument] = arguments[argument].to(**change)
        else:
            arguments[argument][number] = arguments[argument][number].to(**change)

    return apply


def _large_plane(arguments: Arguments) -> None:
    arguments["input"] = torch.rand(1, 4, 1, 32_001)


BROKEN = (
    Broken("input.rank", _set("input", _shape(4, 6, 5)), "input", "[4, 6, 5]", "[N, C, H, W]"),
    Broken("input.dtype", _like("input", None, dtype=torch.int64), "input", "torch.int64", "float32", TypeError),
    Broken("input.size", _set("input", _shape(2, 4, 0, 5)), "input", "[2, 4, 0, 5]", "H and W at least 1"),
    Broken("input.plane", _large_plane, "input", "[1, 4, 1, 32001]", "at most 32000"),
    Broken("weight.rank", _set("weight", _shape(6, 2, 3, 3)), "weight", "[6, 2, 3, 3]", "[D, C_out, C/groups, Kh, Kw]"),
    Broken("weight.dtype", _like("weight", None, dtype=torch.float64), "weight", "float64", "torch.float32", TypeError),
    Broken("weight.device", _like("weight", None, device="meta"), "weight", "meta", "cpu"),
    Broken("weight.size", _set("weight", _shape(2, 6, 2, 0, 3)), "weight", "[2, 6, 2, 0, 3]", "all at least 1"),
    Broken(
        "weight.channels",
        _set("weight", _shape(2, 6, 3, 3, 3)),
        "weight",
        "[2, 6, 3, 3, 3]",
        "divisor of the input's C = 4",
    ),
    Broken(
        "weight.groups", _set("weight", _shape(2, 5, 2, 3, 3)), "weight", "[2, 5, 2, 3, 3]", "multiple of groups = 2"
    ),
    Broken("stride.length", _set("stride", [1]), "stride", "1", "2"),
    Broken("stride.value", _set("stride", [1, 0]), "stride", "[1, 0]", "at least 1"),
    Broken("stride.value", _set("stride", [1_000_001, 1]), "stride", "[1000001, 1]", "at most 1000000"),
    Broken("dilations.length", _set("dilation", [1, 1, 2, 2, 3, 3]), "dilations", "3", "2"),
    Broken("dilations.value", _set("dilation", [1, 1, 0, 2]), "dilation", "[1, 1, 0, 2]", "at least 1"),
    Broken("dilations.value", _set("dilation", [1, 1, 1 << 62, 2]), "dilation", str(1 << 62), "at most 1000000"),
    Broken("padding.length", _set("padding", [1, 1]), "padding", "1", "2"),
    Broken("padding.value", _set("padding", [1, -1, 2, 2]), "padding", "[1, -1, 2, 2]", "at least 0"),
    Broken("padding.value", _set("padding", [1, 1, 2, 1 << 62]), "padding", str(1 << 62), "at most 1000000"),
    Broken(
        "output.size",
        _set("dilation", [1, 1, 9, 9]),
        "input",
        "[6, 5]",
        "dilation [9, 9] and padding [2, 2] should fit",
    ),
    Broken("output.equal", _set("padding", [1, 1, 3, 3]), "padding[1]", "[8, 7]", "[6, 5]"),
    Broken("offsets.length", _set("offsets", lambda: [torch.rand(2, 36, 6, 5)]), "offsets", "1", "2"),
    Broken("offsets.rank", _set("offsets", _shape(36, 6, 5), 1), "offsets[1]", "[36, 6, 5]", "[N, 2*G*Kh*Kw, Ho, Wo]"),
    Broken(
        "offsets.dtype", _like("offsets", 1, dtype=torch.float64), "offsets[1]", "float64", "torch.float32", TypeError
    ),
    Broken("offsets.device", _like("offsets", 1, device="meta"), "offsets[1]", "meta", "cpu"),
    Broken("offsets.batch", _set("offsets", _shape(1, 36, 6, 5), 1), "offsets[1]", "[1, 36, 6, 5]", "[2, 36, 6, 5]"),
    Broken("offsets.channels", _set("offsets", _shape(2, 18, 6, 5), 1), "offsets[1]", "[2, 18, 6, 5]", "[2, 36, 6, 5]"),
    Broken("offsets.channels", _set("offsets", _shape(2, 35, 6, 5), 0), "offsets[0]", "[2, 35, 6, 5]", "18 * G"),
    Broken(
        "offsets.channels", _set("offsets", _shape(2, 54, 6, 5), 0), "offsets[0]", "[2, 54, 6, 5]", "divisor G of 4"
    ),
    Broken("offsets.channels", _set("offsets", _shape(2, 0, 6, 5), 0), "offsets[0]", "[2, 0, 6, 5]", "18 * G"),
    Broken("offsets.size", _set("offsets", _shape(2, 36, 5, 6), 0), "offsets[0]", "[2, 36, 5, 6]", "[2, 36, 6, 5]"),
    Broken("masks.length", _set("masks", lambda: [torch.rand(2, 18, 6, 5)]), "masks", "1", "2"),
    Broken("masks.rank", _set("masks", _shape(18, 6, 5), 0), "masks[0]", "[18, 6, 5]", "[N, G*Kh*Kw, Ho, Wo]"),
    Broken("masks.dtype", _like("masks", 0, dtype=torch.float16), "masks[0]", "float16", "torch.float32", TypeError),
    Broken("masks.device", _like("masks", 0, device="meta"), "masks[0]", "meta", "cpu"),
    Broken("masks.batch", _set("masks", _shape(3, 18, 6, 5), 0), "masks[0]", "[3, 18, 6, 5]", "[2, 18, 6, 5]"),
    Broken("masks.channels", _set("masks", _shape(2, 9, 6, 5), 1), "masks[1]", "[2, 9, 6, 5]", "[2, 18, 6, 5]"),
    Broken("masks.size", _set("masks", _shape(2, 18, 6, 6), 1), "masks[1]", "[2, 18, 6, 6]", "[2, 18, 6, 5]"),
    Broken("bias.size", _set("bias", _shape(4)), "bias", "[4]", "[6]"),
    Broken("bias.size", _set("bias", _shape(6, 1)), "bias", "[6, 1]", "[6]"),
    Broken("bias.dtype", _like("bias", None, dtype=torch.bfloat16), "bias", "bfloat16", "torch.float32", TypeError),
    Broken("bias.device", _like("bias", None, device="meta"), "bias", "meta", "cpu"),
    Broken("grad_output.size", _set("grad_output", _shape(2, 6, 5, 6)), "grad_output", "[2, 6, 5, 6]", "[2, 6, 6, 5]"),
    Broken("grad_output.size", _set("grad_output", _shape(6, 6, 5)), "grad_output", "[6, 6, 5]", "[2, 6, 6, 5]"),
    Broken(
        "grad_output.dtype",
        _like("grad_output", None, dtype=torch.float64),
        "grad_output",
        "float64",
        "float32",
        TypeError,
    ),
    Broken("grad_output.device", _like("grad_output", None, device="meta"), "grad_output", "meta", "cpu"),
)
