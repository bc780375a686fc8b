"""What a valid problem is, and what its output size is: the one rule table.

Python's messages and the fake kernels come from here. ``csrc/torch/checks.h`` guards the operators' memory by the same
rules under the same names; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

# Kernels multiply rows by a plane's pitch in 16 bits: a margin of four pixels must fit beside the image.
LARGEST_SIDE = 32_000

# Of strides, dilations and paddings: the integer part of a position stays exact in float32 (formula 2), and no product
# of them leaves 64 bits.
LARGEST_STEP = 1_000_000


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Number of output positions along one axis (docs/mathematics.md, formula 1).

    >>> output_size(96, kernel=3, stride=1, padding=6, dilation=6)
    96
    """
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    return 0 if span < 0 else span // stride + 1


@dataclass(frozen=True)
class Problem:
    """The arguments of one warp, in the operators' form: D branches, flat lists of (h, w) pairs."""

    input: Tensor  # [N, C, H, W]
    offsets: Sequence[Tensor]  # D x [N, 2*G*Kh*Kw, Ho, Wo]
    masks: Sequence[Tensor]  # none, or D x [N, G*Kh*Kw, Ho, Wo]
    weight: Tensor  # [D, C_out, C/groups, Kh, Kw]
    bias: Tensor | None  # [C_out]
    stride: Sequence[int]  # (h, w)
    padding: Sequence[int]  # D times (h, w)
    dilation: Sequence[int]  # D times (h, w)
    single: bool = False  # called as deform_conv2d: messages name its arguments and leave D out
    grad_output: Tensor | None = None  # [N, C_out, Ho, Wo], of the backward

    @property
    def branches(self) -> int:
        return self.weight.shape[0]

    @property
    def kernel(self) -> tuple[int, int]:
        return self.weight.shape[3], self.weight.shape[4]

    @property
    def taps(self) -> int:
        return self.weight.shape[3] * self.weight.shape[4]

    @property
    def groups(self) -> int:
        return self.input.shape[1] // self.weight.shape[2]

    @property
    def offset_groups(self) -> int:
        return self.offsets[0].shape[1] // (2 * self.taps)

    def branch_size(self, branch: int) -> tuple[int, int]:
        """(Ho, Wo) of one branch."""
        height, width = self.input.shape[2:]
        kernel_h, kernel_w = self.weight.shape[3:]
        padding_h, padding_w = self.padding[2 * branch : 2 * branch + 2]
        dilation_h, dilation_w = self.dilation[2 * branch : 2 * branch + 2]
        return (
            output_size(height, kernel_h, self.stride[0], padding_h, dilation_h),
            output_size(width, kernel_w, self.stride[1], padding_w, dilation_w),
        )

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """[N, C_out, Ho, Wo]."""
        return (self.input.shape[0], self.weight.shape[1], *self.branch_size(0))

    def name(self, argument: str, branch: int) -> str:
        """What the caller calls a tensor of one branch."""
        return argument.removesuffix("s") if self.single else f"{argument}[{branch}]"


@dataclass(frozen=True)
class Rule:
    """One thing that must hold; ``broken`` says what is wrong, or nothing."""

    name: str  # "argument.aspect"
    broken: Callable[[Problem], Iterator[str]]
    error: type[Exception] = ValueError


def shape_of(tensor: Tensor) -> list[int]:
    return list(tensor.shape)


def _any_below(values: Sequence[int], least: int) -> bool:
    # Not min(): of sizes that torch.compile keeps open it would note which one is the smallest, and compile again.
    return any(value < least for value in values)


def _expected(name: str, had: Any, should: Any, what: str = "shape") -> str:
    return f"{name}: {what} is {had}, but should be {should}"


def _listed(dtypes: Sequence[torch.dtype]) -> str:
    return " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


def _input_rank(p: Problem) -> Iterator[str]:
    if p.input.dim() != 4:
        yield _expected("input", shape_of(p.input), "[N, C, H, W]")


def _input_dtype(p: Problem) -> Iterator[str]:
    if p.input.dtype not in DTYPES:
        yield _expected("input", p.input.dtype, _listed(DTYPES), "dtype")


def _input_size(p: Problem) -> Iterator[str]:
    if _any_below(p.input.shape[1:], 1):
        yield _expected("input", shape_of(p.input), "[N, C, H, W] with C, H and W at least 1")


def _input_plane(p: Problem) -> Iterator[str]:
    if any(side > LARGEST_SIDE for side in p.input.shape[2:]):
        yield _expected("input", shape_of(p.input), f"[N, C, H, W] with H and W at most {LARGEST_SIDE}")


def _weight_shape(p: Problem) -> list[int]:
    return shape_of(p.weight)[1:] if p.single else shape_of(p.weight)


def _weight_form(p: Problem) -> str:
    return "[C_out, C/groups, Kh, Kw]" if p.single else "[D, C_out, C/groups, Kh, Kw]"


def _weight_rank(p: Problem) -> Iterator[str]:
    if p.weight.dim() != 5:
        yield _expected("weight", _weight_shape(p), _weight_form(p))


def _weight_size(p: Problem) -> Iterator[str]:
    if _any_below(p.weight.shape, 1):
        yield _expected("weight", _weight_shape(p), f"{_weight_form(p)}, all at least 1")


def _weight_channels(p: Problem) -> Iterator[str]:
    if p.input.shape[1] % p.weight.shape[2] != 0:
        yield _expected(
            "weight",
            _weight_shape(p),
            f"{_weight_form(p)} with C/groups a divisor of the input's C = {p.input.shape[1]}",
        )


def _weight_groups(p: Problem) -> Iterator[str]:
    if p.weight.shape[1] % p.groups != 0:
        yield _expected("weight", _weight_shape(p), f"{_weight_form(p)} with C_out a multiple of groups = {p.groups}")


def _like_input(argument: str, aspect: str, tensors: Callable[[Problem], list[tuple[str, Tensor]]]) -> Rule:
    """Every tensor has the input's dtype (or device)."""

    def broken(p: Problem) -> Iterator[str]:
        for name, tensor in tensors(p):
            if getattr(tensor, aspect) != getattr(p.input, aspect):
                yield _expected(name, getattr(tensor, aspect), f"{getattr(p.input, aspect)}, as the input's", aspect)

    return Rule(f"{argument}.{aspect}", broken, TypeError if aspect == "dtype" else ValueError)


def _weight(p: Problem) -> list[tuple[str, Tensor]]:
    return [("weight", p.weight)]


def _bias(p: Problem) -> list[tuple[str, Tensor]]:
    return [] if p.bias is None else [("bias", p.bias)]


def _grad_output(p: Problem) -> list[tuple[str, Tensor]]:
    return [] if p.grad_output is None else [("grad_output", p.grad_output)]


def _offsets(p: Problem) -> list[tuple[str, Tensor]]:
    return [(p.name("offsets", d), offset) for d, offset in enumerate(p.offsets)]


def _masks(p: Problem) -> list[tuple[str, Tensor]]:
    return [(p.name("masks", d), mask) for d, mask in enumerate(p.masks)]


def _values(argument: str, single_name: str, least: int, values: Callable[[Problem], Sequence[int]]) -> Rule:
    def broken(p: Problem) -> Iterator[str]:
        if _any_below(values(p), least) or any(value > LARGEST_STEP for value in values(p)):
            should = f"at least {least} and at most {LARGEST_STEP}"
            yield _expected(single_name if p.single else argument, list(values(p)), should, "value")

    return Rule(f"{argument}.value", broken)


def _stride_length(p: Problem) -> Iterator[str]:
    if len(p.stride) != 2:
        yield _expected("stride", len(p.stride), "2", "length")


def _pairs(argument: str, values: Callable[[Problem], Sequence[int]]) -> Rule:
    def broken(p: Problem) -> Iterator[str]:
        if len(values(p)) != 2 * p.branches:
            yield _expected(argument, len(values(p)) // 2, f"{p.branches}, as the weight has branches", "length")

    return Rule(f"{argument}.length", broken)


def _output_size(p: Problem) -> Iterator[str]:
    for d in range(p.branches):
        if _any_below(p.branch_size(d), 1):
            yield (
                f"input: of size {shape_of(p.input)[2:]}, but the window of {p.name('dilations', d)} with kernel "
                f"{list(p.kernel)}, dilation {list(p.dilation[2 * d : 2 * d + 2])} and padding "
                f"{list(p.padding[2 * d : 2 * d + 2])} should fit into it"
            )


def _output_equal(p: Problem) -> Iterator[str]:
    first = p.branch_size(0)
    for d in range(1, p.branches):
        size = p.branch_size(d)
        if size != first:
            yield _expected(f"padding[{d}]", list(size), f"{list(first)}, as that of padding[0]", "output size")


def _sequence_length(argument: str, tensors: Callable[[Problem], Sequence[Tensor]], optional: bool) -> Rule:
    def broken(p: Problem) -> Iterator[str]:
        if len(tensors(p)) != p.branches and not (optional and len(tensors(p)) == 0):
            yield _expected(argument, len(tensors(p)), f"{p.branches}, one for each branch of the weight", "length")

    return Rule(f"{argument}.length", broken)


def _ranks(argument: str, form: str, tensors: Callable[[Problem], list[tuple[str, Tensor]]]) -> Rule:
    def broken(p: Problem) -> Iterator[str]:
        for name, tensor in tensors(p):
            if tensor.dim() != 4:
                yield _expected(name, shape_of(tensor), form)

    return Rule(f"{argument}.rank", broken)


def _sampling_shape(p: Problem, channels: int | str) -> str:
    height, width = p.branch_size(0)
    return f"[{p.input.shape[0]}, {channels}, {height}, {width}]"


def _offset_channels(p: Problem) -> Iterator[str]:
    channels = p.offsets[0].shape[1]
    if channels < 1 or channels % (2 * p.taps) != 0 or p.input.shape[1] % p.offset_groups != 0:
        multiple = f"{2 * p.taps} * G for a divisor G of {p.input.shape[1]}"
        yield _expected(p.name("offsets", 0), shape_of(p.offsets[0]), _sampling_shape(p, multiple))
        return
    for d, offset in enumerate(p.offsets):
        if offset.shape[1] != channels:
            yield _expected(p.name("offsets", d), shape_of(offset), _sampling_shape(p, channels))


def _mask_channels(p: Problem) -> Iterator[str]:
    channels = p.taps * p.offset_groups
    for name, mask in _masks(p):
        if mask.shape[1] != channels:
            yield _expected(name, shape_of(mask), _sampling_shape(p, channels))


def _batches(argument: str, tensors: Callable[[Problem], list[tuple[str, Tensor]]]) -> Rule:
    def broken(p: Problem) -> Iterator[str]:
        for name, tensor in tensors(p):
            if tensor.shape[0] != p.input.shape[0]:
                yield _expected(name, shape_of(tensor), _sampling_shape(p, tensor.shape[1]))

    return Rule(f"{argument}.batch", broken)


def _sizes(argument: str, tensors: Callable[[Problem], list[tuple[str, Tensor]]]) -> Rule:
    def broken(p: Problem) -> Iterator[str]:
        size = p.branch_size(0)
        for name, tensor in tensors(p):
            if tuple(tensor.shape[2:]) != size:
                yield _expected(name, shape_of(tensor), _sampling_shape(p, tensor.shape[1]))

    return Rule(f"{argument}.size", broken)


def _bias_size(p: Problem) -> Iterator[str]:
    if p.bias is not None and shape_of(p.bias) != [p.weight.shape[1]]:
        yield _expected("bias", shape_of(p.bias), [p.weight.shape[1]])


def _grad_output_size(p: Problem) -> Iterator[str]:
    if p.grad_output is not None and tuple(p.grad_output.shape) != p.output_shape:
        yield _expected("grad_output", shape_of(p.grad_output), list(p.output_shape))


# In the order in which they are checked: a rule may rely on those before it.
RULES = (
    Rule("input.rank", _input_rank),
    Rule("input.dtype", _input_dtype, TypeError),
    Rule("input.size", _input_size),
    Rule("input.plane", _input_plane),
    Rule("weight.rank", _weight_rank),
    _like_input("weight", "dtype", _weight),
    _like_input("weight", "device", _weight),
    Rule("weight.size", _weight_size),
    Rule("weight.channels", _weight_channels),
    Rule("weight.groups", _weight_groups),
    Rule("stride.length", _stride_length),
    _values("stride", "stride", 1, lambda p: p.stride),
    _pairs("dilations", lambda p: p.dilation),
    _values("dilations", "dilation", 1, lambda p: p.dilation),
    _pairs("padding", lambda p: p.padding),
    _values("padding", "padding", 0, lambda p: p.padding),
    Rule("output.size", _output_size),
    Rule("output.equal", _output_equal),
    _sequence_length("offsets", lambda p: p.offsets, optional=False),
    _ranks("offsets", "[N, 2*G*Kh*Kw, Ho, Wo]", _offsets),
    _like_input("offsets", "dtype", _offsets),
    _like_input("offsets", "device", _offsets),
    _batches("offsets", _offsets),
    Rule("offsets.channels", _offset_channels),
    _sizes("offsets", _offsets),
    _sequence_length("masks", lambda p: p.masks, optional=True),
    _ranks("masks", "[N, G*Kh*Kw, Ho, Wo]", _masks),
    _like_input("masks", "dtype", _masks),
    _like_input("masks", "device", _masks),
    _batches("masks", _masks),
    Rule("masks.channels", _mask_channels),
    _sizes("masks", _masks),
    Rule("bias.size", _bias_size),
    _like_input("bias", "dtype", _bias),
    _like_input("bias", "device", _bias),
    Rule("grad_output.size", _grad_output_size),
    _like_input("grad_output", "dtype", _grad_output),
    _like_input("grad_output", "device", _grad_output),
)


def violation(problem: Problem) -> Exception | None:
    """The error of the first rule that the problem breaks, if there is one."""
    for rule in RULES:
        for message in rule.broken(problem):
            return rule.error(message)
    return None


def check(problem: Problem) -> None:
    """Raise for the first rule that the problem breaks.

    Raises:
        ValueError: a shape, length, value or device is wrong.
        TypeError: a dtype is wrong.
    """
    error = violation(problem)
    if error is not None:
        raise error
