"""The problems that every backend has to solve, as data, and what a right answer is."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import torchvision
from torch import Tensor

import deformwarp
from deformwarp import reference
from deformwarp.reference import arithmetic_dtype
from deformwarp.rules import output_size

Pair = tuple[int, int]
CPU = torch.device("cpu")
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

# How many times the error of eager PyTorch, in the same dtype, a result may have. Nothing but the order of the sums
# and the use of fused multiply-adds may differ, so both errors are maxima of the same kind of random rounding errors;
# such maxima differ by less than a factor of two from sample to sample, and twice that leaves room for chance.
ERROR_FACTOR = 4


@dataclass(frozen=True)
class Case:
    """The shape of a problem. ``padding`` None stands for "same", ``offset_groups`` None for one per channel."""

    name: str
    channels: int = 4
    out_channels: int = 3
    size: Pair = (7, 9)
    batch: int = 2
    kernel: Pair = (3, 3)
    dilations: tuple[Pair, ...] = ((1, 1),)
    padding: tuple[Pair, ...] | None = None
    stride: Pair = (1, 1)
    groups: int = 1
    offset_groups: int | None = None
    masked: bool = False
    biased: bool = False
    scale: float = 1.0
    spread: float = 2.0  # standard deviation of the offsets

    def __str__(self) -> str:
        return self.name

    @property
    def paddings(self) -> tuple[Pair, ...]:
        if self.padding is not None:
            return self.padding
        (high, wide) = self.kernel
        return tuple((h * (high - 1) // 2, w * (wide - 1) // 2) for h, w in self.dilations)

    @property
    def out_size(self) -> Pair:
        sizes = {
            tuple(output_size(self.size[a], self.kernel[a], self.stride[a], p[a], d[a]) for a in (0, 1))
            for p, d in zip(self.paddings, self.dilations, strict=True)
        }
        ((height, width),) = sizes
        return height, width


PLANAR = (  # one offset group per channel
    Case("posewarper", 17, 17, (24, 20), 1, dilations=((3, 3), (6, 6), (12, 12), (18, 18), (24, 24)), spread=3),
    Case("plane_of_many_tiles", 5, 4, (33, 21), scale=0.2, dilations=((1, 1), (2, 2))),
    Case("plane_of_exactly_one_tile", 2, 2, (16, 16)),
    Case("rows_of_whole_quads", 3, 9, (8, 12), 3, dilations=((1, 1), (2, 2)), biased=True, scale=0.2),
    Case("wide_output_of_whole_quads", 2, 30, (6, 8), 2, kernel=(5, 3), dilations=((1, 2),), padding=((3, 2),)),
    Case("lopsided", 3, 5, (11, 8), kernel=(5, 3), stride=(2, 3), dilations=((1, 2), (3, 1)), padding=((3, 2), (7, 1))),
    Case("even_kernel", 2, 3, kernel=(2, 4), dilations=((2, 1),), padding=((1, 3),)),
    Case("masks_bias_groups", 6, 4, groups=2, masked=True, biased=True, dilations=((1, 1), (2, 1), (1, 3)), scale=1.5),
    Case("depthwise", 5, 10, groups=5, dilations=((1, 1),) * 4, biased=True),
    Case("many_taps", 2, 3, (9, 6), kernel=(7, 5), dilations=((1, 1), (2, 3)), masked=True),
    Case("kernel_1x1", 7, 2, kernel=(1, 1), dilations=((1, 1), (5, 5))),
    Case("primes", 13, 7, (23, 19), 3, dilations=((2, 2),), spread=5),
    Case("one_row", 3, 2, (1, 37), kernel=(1, 3)),
    Case("one_column", 3, 2, (37, 1), kernel=(3, 1), biased=True),
    Case("one_pixel", 3, 2, (1, 1), dilations=((1, 1), (2, 2))),
    Case("one_channel", 1, 1, masked=True),
    Case("stride_beyond_kernel", 2, 3, (20, 17), stride=(5, 4), padding=((0, 0),)),
)
SHARED = (  # channels that share offsets
    Case("shared", 8, 6, offset_groups=1, dilations=((1, 1), (2, 2))),
    Case("shared_plane_of_many_tiles", 4, 3, (19, 14), offset_groups=1, scale=0.2, dilations=((3, 3), (1, 1))),
    Case("shared_plane_of_exactly_one_tile", 2, 2, (8, 8), offset_groups=1),
    Case("shared_beyond_vectors", 21, 35, (6, 7), offset_groups=1, biased=True),
    Case("shared_17_channels_a_group", 34, 9, (5, 6), offset_groups=2, masked=True),
    Case("shared_cut_by_weight_groups", 12, 6, groups=3, offset_groups=2, masked=True, biased=True, scale=0.5),
    Case("shared_cut_beyond_vectors", 54, 9, (5, 5), groups=3, offset_groups=2),
    Case("shared_depthwise", 6, 12, groups=6, offset_groups=2, dilations=((1, 1), (2, 1), (1, 2))),
    Case(
        "shared_lopsided",
        6,
        5,
        (11, 8),
        3,
        (5, 3),
        ((1, 2), (3, 1)),
        ((3, 2), (7, 1)),
        (2, 3),
        1,
        3,
        True,
        True,
        0.7,
        3,
    ),
    Case("shared_many_taps", 4, 3, (8, 6), kernel=(5, 7), offset_groups=2, dilations=((1, 1), (2, 1))),
    Case("shared_kernel_1x1", 10, 4, kernel=(1, 1), offset_groups=5),
    Case("shared_one_pixel", 4, 2, (1, 1), offset_groups=1),
    Case("shared_primes", 13, 11, (13, 7), offset_groups=1, dilations=((2, 2),) * 5, spread=4),
)
CASES = PLANAR + SHARED
BY_NAME = {case.name: case for case in CASES}


@dataclass
class Problem:
    """The tensors of a case."""

    case: Case
    input: Tensor
    offsets: list[Tensor]
    masks: list[Tensor] | None
    weight: Tensor
    bias: Tensor | None
    grad_output: Tensor

    def leaves(self) -> dict[str, Tensor]:
        """What can have a gradient, by name."""
        leaves = {"input": self.input, "weight": self.weight}
        leaves |= {f"offsets[{d}]": offset for d, offset in enumerate(self.offsets)}
        leaves |= {f"masks[{d}]": mask for d, mask in enumerate(self.masks or [])}
        return leaves if self.bias is None else leaves | {"bias": self.bias}

    def map(self, change: Any) -> Problem:
        """The problem with ``change(tensor)`` in place of every tensor."""
        return replace(
            self,
            input=change(self.input),
            offsets=[change(offset) for offset in self.offsets],
            masks=None if self.masks is None else [change(mask) for mask in self.masks],
            weight=change(self.weight),
            bias=None if self.bias is None else change(self.bias),
            grad_output=change(self.grad_output),
        )

    def to(self, dtype: torch.dtype) -> Problem:
        return self.map(lambda tensor: tensor.to(dtype))

    def samples(self, first: int, last: int) -> Problem:
        """Some of the batch."""
        return replace(
            self,
            input=self.input[first:last],
            offsets=[offset[first:last] for offset in self.offsets],
            masks=None if self.masks is None else [mask[first:last] for mask in self.masks],
            grad_output=self.grad_output[first:last],
        )

    def warp(self) -> Tensor:
        """The fused op."""
        return deformwarp.fused_deform_warp(
            self.input,
            self.offsets,
            self.weight,
            self.bias,
            dilations=self.case.dilations,
            stride=self.case.stride,
            padding=self.case.paddings,
            masks=self.masks,
            scale=self.case.scale,
        )

    def by_formula(self) -> Tensor:
        """The reference without validation, which takes negative paddings too."""
        padding, dilation = ([n for pair in pairs for n in pair] for pairs in (self.case.paddings, self.case.dilations))
        arguments = (self.input, self.offsets, self.masks or [], self.weight, self.bias)
        return reference.warp(*arguments, self.case.stride, padding, dilation, self.case.scale)

    def by_torchvision(self) -> Tensor:
        """torchvision's calls and their sum."""
        case = self.case
        total = sum(
            torchvision.ops.deform_conv2d(
                self.input,
                self.offsets[d],
                self.weight[d],
                None,
                case.stride,
                case.paddings[d],
                case.dilations[d],
                None if self.masks is None else self.masks[d],
            )
            for d in range(len(case.dilations))
        )
        assert isinstance(total, Tensor)
        total = case.scale * total
        return total if self.bias is None else total + self.bias.reshape(-1, 1, 1)


def away_from_kinks(offset: Tensor, margin: float) -> Tensor:
    """Offsets whose fractions lie in [margin, 1 - margin], where the warp is smooth."""
    whole = offset.floor()
    return whole + margin + (1 - 2 * margin) * (offset - whole)


def problem_of(case: Case, dtype: torch.dtype = torch.float64, margin: float = 0.02) -> Problem:
    """The tensors of a case, random from a seed of its own, on torch's default device; do not change them in place."""
    return _problem_on(torch.get_default_device(), case, dtype, margin)


@cache
def _problem_on(device: torch.device, case: Case, dtype: torch.dtype, margin: float) -> Problem:
    if device != CPU:
        return _problem_on(CPU, case, dtype, margin).map(lambda tensor: tensor.to(device))
    random = torch.Generator().manual_seed(zlib.crc32(case.name.encode()))
    groups = case.channels if case.offset_groups is None else case.offset_groups
    branches, taps = len(case.dilations), case.kernel[0] * case.kernel[1]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64, device=CPU)

    return Problem(
        case,
        normal(case.batch, case.channels, *case.size),
        [
            away_from_kinks(case.spread * normal(case.batch, 2 * groups * taps, *case.out_size), margin)
            for _ in range(branches)
        ],
        [normal(case.batch, groups * taps, *case.out_size) for _ in range(branches)] if case.masked else None,
        normal(branches, case.out_channels, case.channels // case.groups, *case.kernel),
        normal(case.out_channels) if case.biased else None,
        normal(case.batch, case.out_channels, *case.out_size),
    ).to(dtype)


def forward_and_gradients(problem: Problem, method: str = "warp", wanted: Any = None) -> dict[str, Tensor]:
    """The output, and the gradient of every leaf (or of those ``wanted``) for ``problem.grad_output``, by name."""
    leaves = problem.map(lambda tensor: tensor.detach())
    targets = {name: leaf for name, leaf in leaves.leaves().items() if wanted is None or name in wanted}
    for leaf in targets.values():
        leaf.requires_grad_()
    output = getattr(leaves, method)()
    grads = torch.autograd.grad(output, list(targets.values()), leaves.grad_output)
    return {"output": output.detach(), **dict(zip(targets, grads, strict=True))}


@dataclass(frozen=True)
class Expectation:
    value: Tensor  # in float64
    error: float  # that is allowed


def _error(actual: Tensor, exact: Tensor) -> float:
    return (actual.double().to(exact.device) - exact).abs().max().item() if exact.numel() else 0.0


@cache
def expectations(case: Case, dtype: torch.dtype) -> dict[str, Expectation]:
    """Output and gradients by the reference in float64 on the very numbers of ``dtype``, and the errors allowed.

    On the CPU, whatever the device under test.
    """
    # Float64 has no wider oracle: the errors of float32, scaled to its precision, stand in for those of eager float64.
    eager_dtype = torch.float32 if dtype == torch.float64 else dtype
    shrink = torch.finfo(dtype).eps / torch.finfo(eager_dtype).eps
    with deformwarp.use_backend("reference"), CPU:
        eager = forward_and_gradients(problem_of(case, eager_dtype))
        exact_for_eager = forward_and_gradients(problem_of(case, eager_dtype).to(torch.float64))
        exact = forward_and_gradients(problem_of(case, dtype).to(torch.float64))
    rounding, sum_rounding = (torch.finfo(t).eps / 2 for t in (dtype, arithmetic_dtype(dtype)))
    with CPU:
        largest_sums = _largest_sums(case)
    allowed = {}
    for name, value in exact.items():
        # Eager may have been exact by luck: one rounding of the result, and one of the largest sum, are free.
        floor = rounding * value.abs().max().item() + sum_rounding * largest_sums[name]
        allowed[name] = ERROR_FACTOR * max(shrink * _error(eager[name], exact_for_eager[name]), floor)
    return {name: Expectation(value, allowed[name]) for name, value in exact.items()}


@cache
def _largest_sums(case: Case) -> dict[str, float]:
    """How large the results could be without cancellation, and with every sample well inside an image."""
    problem = problem_of(case).map(torch.abs)
    problem.offsets = problem_of(case).offsets
    problem.masks = problem.masks or [torch.ones_like(offset[:, ::2]) for offset in problem.offsets]
    window = max(case.kernel) * max(map(max, case.dilations)) + max(map(max, case.paddings))
    margin = int(max(offset.abs().max().item() for offset in problem.offsets)) + window + 2
    wide = tuple(size + 2 * margin for size in case.size)
    problem.input = problem.input.max().expand(case.batch, case.channels, *wide)
    problem.case = replace(case, size=wide, padding=tuple((h - margin, w - margin) for h, w in case.paddings))
    sums = {name: tensor.abs().max().item() for name, tensor in forward_and_gradients(problem, "by_formula").items()}
    for d, mask in enumerate(problem.masks):  # two neighbouring pixels differ by at most twice the largest
        sums[f"offsets[{d}]"] = 2 * mask.max().item() * sums[f"masks[{d}]"]
    return sums


def assert_within(actual: dict[str, Tensor], expected: dict[str, Expectation], dtype: torch.dtype) -> None:
    """Every result has the dtype and is as near to the expected one as its own bound says."""
    for name, tensor in actual.items():
        assert tensor.dtype == dtype, name
        assert tensor.shape == expected[name].value.shape, name
        error = _error(tensor, expected[name].value)
        assert error <= expected[name].error, f"{name}: error {error:.3g}, allowed {expected[name].error:.3g}"


def assert_near(actual: dict[str, Tensor], expected: dict[str, Tensor], ulps: float = 64) -> None:
    """Two computations in one dtype agree up to ``ulps`` roundings of the largest value."""
    assert actual.keys() == expected.keys()
    for name, tensor in actual.items():
        assert tensor.shape == expected[name].shape, name
        assert tensor.dtype == expected[name].dtype, name
        if tensor.numel():
            bound = ulps * torch.finfo(tensor.dtype).eps * expected[name].abs().max().item()
            error = _error(tensor, expected[name].double())
            assert error <= bound, f"{name}: differ by {error:.3g}, allowed {bound:.3g}"


def assert_same_bits(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in actual.items():
        assert torch.equal(tensor, expected[name]), name
