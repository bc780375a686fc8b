"""Bad input raises, and says what was wrong: in Python, in the fake kernels, and in C++, by one table of rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_problems import BROKEN, Arguments, Broken, valid_arguments
from torch._subclasses import FakeTensorMode
from torch.utils._pytree import tree_map_only

import deformwarp
from deformwarp.rules import RULES

CHECKS = Path(__file__).parent.parent / "csrc" / "torch" / "checks.h"
OPERANDS = ("input", "offsets", "masks", "weight")
GEOMETRY = ("stride", "padding", "dilation")
WANTED = [True] * 4

every_broken = pytest.mark.parametrize(
    "broken", BROKEN, ids=[f"{broken.rule}-{number}" for number, broken in enumerate(BROKEN)]
)


def _pairs(flat: list[int]) -> list[tuple[int, int]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _call_python(a: Arguments) -> None:
    deformwarp.fused_deform_warp(
        a["input"],
        a["offsets"],
        a["weight"],
        a["bias"],
        dilations=_pairs(a["dilation"]),
        stride=tuple(a["stride"]),
        padding=_pairs(a["padding"]),
        masks=a["masks"],
    )


def _forward_arguments(a: Arguments) -> list[Any]:
    return [*(a[name] for name in OPERANDS), a["bias"], *(a[name] for name in GEOMETRY), 1.0]


def _backward_arguments(a: Arguments) -> list[Any]:
    return [a["grad_output"], *(a[name] for name in OPERANDS), *(a[name] for name in GEOMETRY), 1.0, *WANTED]


def _operator(a: Arguments, of_backward: bool) -> Callable[[], Any]:
    if of_backward:
        return lambda: torch.ops.deformwarp.warp_backward(*_backward_arguments(a))
    return lambda: torch.ops.deformwarp.warp(*_forward_arguments(a))


def _compiled_kernel(a: Arguments, of_backward: bool) -> Callable[[], Any]:
    """The CPU kernel itself, whatever the devices of the arguments."""
    cpu = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
    if of_backward:
        return lambda: torch.ops.deformwarp.warp_backward.default.redispatch(cpu, *_backward_arguments(a))
    return lambda: torch.ops.deformwarp.warp.default.redispatch(cpu, *_forward_arguments(a))


def _broken_arguments(broken: Broken) -> Arguments:
    arguments = valid_arguments()
    broken.change(arguments)
    return arguments


def _says(broken: Broken, message: str) -> bool:
    should = torch.get_default_device().type if broken.rule.endswith("device") else broken.should
    return message.startswith(broken.argument) and broken.had in message and should in message


def test_the_table_has_every_rule() -> None:
    assert {broken.rule for broken in BROKEN} == {rule.name for rule in RULES}


def test_cpp_has_the_rules_of_python() -> None:
    names = set(re.findall(r'"([a-z_]+\.[a-z]+)"', CHECKS.read_text()))
    assert names == {rule.name for rule in RULES}


def test_the_arguments_that_are_broken_are_valid_before() -> None:
    arguments = valid_arguments()
    _call_python(arguments)
    _compiled_kernel(arguments, False)()
    _compiled_kernel(arguments, True)()


every_broken_call = pytest.mark.parametrize(
    "broken",
    # What is no pair is refused before, by its type.
    [b for b in BROKEN if not b.rule.startswith("grad_output") and b.rule != "stride.length"],
    ids=lambda broken: f"{broken.rule}-{broken.had}",
)


@every_broken_call
@pytest.mark.parametrize("gradients", [False, True], ids=["without_gradients", "with_gradients"])
def test_what_a_kernel_refuses_is_said_in_the_callers_words(broken: Broken, gradients: bool) -> None:
    arguments = _broken_arguments(broken)
    arguments["bias"].requires_grad_(gradients)
    with pytest.raises(broken.error) as raised:
        _call_python(arguments)
    assert _says(broken, str(raised.value)), raised.value
    alone = raised.value.__context__ is None or raised.value.__suppress_context__
    assert alone, "the kernel's own words are of no use to the caller"


@every_broken_call
@pytest.mark.usefixtures("backend")
def test_python_names_the_argument_what_it_had_and_what_it_should_have(broken: Broken) -> None:
    with pytest.raises(broken.error) as raised:
        _call_python(_broken_arguments(broken))
    assert _says(broken, str(raised.value)), raised.value


@every_broken
def test_the_fake_kernel_raises_the_same(broken: Broken) -> None:
    arguments = _broken_arguments(broken)
    mode = FakeTensorMode()
    fakes = tree_map_only(torch.Tensor, mode.from_tensor, arguments)
    with mode, pytest.raises(broken.error) as raised:
        _operator(fakes, broken.rule.startswith("grad_output"))()
    assert _says(broken, str(raised.value)), raised.value


@pytest.mark.parametrize(
    "broken", [broken for broken in BROKEN if not broken.rule.endswith("device")], ids=lambda b: f"{b.rule}-{b.had}"
)
def test_tensors_on_meta_raise_the_same(broken: Broken) -> None:
    arguments = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), _broken_arguments(broken))
    with pytest.raises(broken.error) as raised:
        _operator(arguments, broken.rule.startswith("grad_output"))()
    assert _says(broken, str(raised.value)), raised.value


@every_broken
def test_the_compiled_kernel_refuses_by_the_same_rule(broken: Broken) -> None:
    with pytest.raises(RuntimeError, match=rf"rule {re.escape(broken.rule)}\b"):
        _compiled_kernel(_broken_arguments(broken), broken.rule.startswith("grad_output"))()


@pytest.mark.parametrize(
    "broken",
    [broken for broken in BROKEN if not broken.rule.startswith("bias")],  # the backward takes no bias
    ids=lambda broken: f"{broken.rule}-{broken.had}",
)
def test_the_compiled_backward_checks_what_the_forward_does(broken: Broken) -> None:
    with pytest.raises(RuntimeError, match=rf"rule {re.escape(broken.rule)}\b"):
        _compiled_kernel(_broken_arguments(broken), True)()


X, OFFSET, WEIGHT = torch.rand(1, 2, 5, 5), torch.rand(1, 18, 5, 5), torch.rand(1, 2, 2, 3, 3)

WRONG_CALLS: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "input_not_a_tensor": (TypeError, "input: is a list", {"input": [[1.0]]}),
    "weight_not_a_tensor": (TypeError, "weight: is a float", {"weight": 1.0}),
    "weight_of_a_single_convolution": (ValueError, r"weight: shape is \[2, 2, 3, 3\]", {"weight": WEIGHT[0]}),
    "bias_not_a_tensor": (TypeError, "bias: is a int", {"bias": 0}),
    "offsets_none": (ValueError, "offsets: length is 0, but should be 1", {"offsets": None}),
    "offsets_a_number": (TypeError, "offsets: is a int", {"offsets": 3}),
    "offsets_not_stacked": (ValueError, r"offsets: shape is \[1, 18, 5, 5\].*stacked", {"offsets": OFFSET}),
    "offsets_of_numbers": (TypeError, r"offsets\[0\]: is a int", {"offsets": [0]}),
    "masks_of_strings": (TypeError, r"masks\[0\]: is a str", {"masks": ["mask"]}),
    "dilations_a_number": (TypeError, "dilations: is 1, but should be a sequence", {"dilations": 1}),
    "dilations_a_float": (TypeError, r"dilations\[0\]: is 1.5", {"dilations": [1.5]}),
    "dilations_a_bool": (TypeError, r"dilations\[0\]: is True", {"dilations": [True]}),
    "dilations_a_triple": (TypeError, r"dilations\[0\]: is \(1, 1, 1\)", {"dilations": [(1, 1, 1)]}),
    "stride_a_string": (TypeError, "stride: is '1'", {"stride": "1"}),
    "stride_a_triple": (TypeError, r"stride: is \(1, 1, 1\)", {"stride": (1, 1, 1)}),
    "stride_a_bool": (TypeError, "stride: is True", {"stride": True}),
    "padding_valid": (ValueError, "padding: is 'valid', but should be 'same'", {"padding": "valid"}),
    "padding_a_float": (TypeError, "padding: is 1.0", {"padding": 1.0}),
    "padding_bools": (TypeError, "padding: is .True, True.", {"padding": (True, True)}),
    "padding_of_too_many": (ValueError, "padding: length is 3, but should be 1", {"padding": [1, 1, 1]}),
    "same_padding_of_an_even_kernel": (
        ValueError,
        r"padding: 'same' needs odd kernel sizes.*\[2, 3\]",
        {"weight": WEIGHT[..., :2, :]},
    ),
}


@pytest.mark.parametrize(("error", "message", "change"), WRONG_CALLS.values(), ids=WRONG_CALLS.keys())
def test_wrong_types_and_values_of_fused_deform_warp(
    error: type[Exception], message: str, change: dict[str, Any]
) -> None:
    arguments: dict[str, Any] = {"input": X, "offsets": [OFFSET], "weight": WEIGHT, "dilations": [1]} | change
    with pytest.raises(error, match=message):
        deformwarp.fused_deform_warp(**arguments)


WRONG_SINGLE_CALLS: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "offset_a_list": (TypeError, "offset: is a list", {"offset": [OFFSET]}),
    "offset_channels": (
        ValueError,
        r"offset: shape is \[1, 17, 5, 5\], but should be \[1, 18",
        {"offset": OFFSET[:, 1:]},
    ),
    "offset_size": (ValueError, r"offset: shape is \[1, 18, 5, 5\], but should be \[1, 18, 3, 3\]", {"padding": 0}),
    "mask_channels": (ValueError, r"mask: shape is \[1, 18, 5, 5\], but should be \[1, 9, 5, 5\]", {"mask": OFFSET}),
    "mask_not_a_tensor": (TypeError, "mask: is a bool", {"mask": True}),
    "weight_rank": (ValueError, r"weight: shape is .*should be \[C_out, C/groups, Kh, Kw\]", {"weight": WEIGHT}),
    "weight_channels": (ValueError, r"weight: shape is \[2, 3, 3, 3\]", {"weight": torch.rand(2, 3, 3, 3)}),
    "dilation_zero": (ValueError, r"dilation: value is \[0, 0\], but should be at least 1", {"dilation": 0}),
    "padding_string": (TypeError, "padding: is 'same'", {"padding": "same"}),
    "stride_negative": (ValueError, r"stride: value is \[-1, 1\]", {"stride": (-1, 1)}),
}


@pytest.mark.parametrize(("error", "message", "change"), WRONG_SINGLE_CALLS.values(), ids=WRONG_SINGLE_CALLS.keys())
def test_messages_of_deform_conv2d_use_its_own_argument_names(
    error: type[Exception], message: str, change: dict[str, Any]
) -> None:
    arguments: dict[str, Any] = {"input": X, "offset": OFFSET, "weight": WEIGHT[0], "padding": 1} | change
    with pytest.raises(error, match=message):
        deformwarp.deform_conv2d(**arguments)
