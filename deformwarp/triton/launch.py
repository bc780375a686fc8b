"""From tensors to kernels: ``warp`` and ``warp_backward`` with the schemas of csrc/torch/library.cpp.

The first import of this module imports Triton.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from deformwarp import rules
from deformwarp.ops import Gradients, gradient_like
from deformwarp.triton import packing, planar, sampling, shared, tuning
from deformwarp.triton.arguments import Branches, Shape, branches_of, shape_of
from deformwarp.triton.plan import Device, Plan, Tile, cdiv, chunk_tiles, is_split

TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
BLOCK = 1024  # elements of one program in kernels that only move numbers
# One stage: loads whose addresses come from other loads are not what Triton's pipelining is made for. The kernels fetch
# ahead themselves, where there is something to fetch.
OPTIONS = {"num_stages": 1, "enable_fp_fusion": True}


@functools.cache
def device_of(index: int | None) -> Device:
    """The GPU with that number; the interpreter, which is no GPU, stands in for a large one."""
    if index is None:
        return Device("cuda", "90", 132, "interpreter")
    properties = torch.cuda.get_device_properties(index)
    vendor, architecture = "cuda", f"{properties.major}{properties.minor}"
    if torch.version.hip:
        vendor, architecture = "hip", properties.gcnArchName.split(":")[0]
    return Device(vendor, architecture, properties.multi_processor_count, properties.name)


def _dense_samples(tensor: Tensor) -> Tensor:
    # A view whose samples are dense needs no copy: slices of one convolution's output, or a stacked tensor, unbound.
    return tensor if tensor[:1].is_contiguous() else tensor.contiguous()


def call(kernel: Any, programs: int, *arguments: Any, warps: int = 4, **constants: Any) -> None:
    """Launches a kernel on the current stream."""
    if programs > 0:
        kernel[(programs,)](*arguments, **constants, num_warps=warps, **OPTIONS)


@dataclass(frozen=True)
class Prepared:
    """A valid problem in the forms that the kernels read."""

    shape: Shape
    branches: Branches
    settings: Plan
    device: Device
    image: Tensor  # pairs or channels last, with a margin
    offsets: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]
    weight: Tensor  # [C, T, C_out/groups]
    dtype: torch.dtype

    @classmethod
    def of(cls, problem: rules.Problem) -> Prepared:
        shape = shape_of(problem)
        offsets = tuple(map(_dense_samples, problem.offsets))
        masks = tuple(map(_dense_samples, problem.masks))
        branches = branches_of(problem, [o.stride(0) for o in offsets], [m.stride(0) for m in masks])
        dtype, device = problem.input.dtype, device_of(problem.input.device.index)
        settings = tuning.settings_for(shape, problem.branches, dtype, device)
        pack = _pack_pairs if settings.planar else _pack_channels_last
        image = pack(problem.input.contiguous(), shape)
        return cls(shape, branches, settings, device, image, offsets, masks, _pack_weight(problem), dtype)

    def tiles(self, tile: Tile) -> int:
        """Of an output plane."""
        return cdiv(self.shape.out_area, tile.pixels)

    def constants(self, tile: Tile) -> dict[str, Any]:
        """Arguments that are part of a kernel's code."""
        settings = self.settings
        constants = {"DTYPE": TYPES[self.dtype], "OUT": settings.out, "TF32": settings.tf32, "warps": tile.warps}
        if settings.planar:
            strips, whole = tile.pixels // settings.lanes, self.shape.out_area % tile.pixels == 0
            return constants | {"TAPS": settings.taps, "STRIPS": strips, "LANES": settings.lanes, "WHOLE": whole}
        return constants | {"PIXELS": tile.pixels, "CHANNELS": settings.channels, "VECTOR": settings.vector}


def _pack_pairs(input: Tensor, shape: Shape) -> Tensor:
    """[N, C, H + 3, W + 4] of words that hold a pixel and the one below."""
    word = torch.int64 if input.dtype == torch.float32 else torch.int32
    pairs = input.new_empty((shape.samples, shape.channels, shape.height + 3, shape.width + 4), dtype=word)
    tiles = cdiv((shape.height + 3) * (shape.width + 4), BLOCK)
    call(packing.pack_pairs, shape.samples * shape.channels * tiles, input, pairs, shape, tiles, BLOCK=BLOCK)
    return pairs


def _pack_channels_last(input: Tensor, shape: Shape) -> Tensor:
    """[N, H + 4, W + 4, C]."""
    image = input.new_empty((shape.samples, shape.height + 4, shape.width + 4, shape.channels))
    pixels, channels = 64, 32
    tiles, blocks = cdiv((shape.height + 4) * (shape.width + 4), pixels), cdiv(shape.channels, channels)
    programs = shape.samples * blocks * tiles
    call(packing.pack_channels_last, programs, input, image, shape, tiles, blocks, PIXELS=pixels, CHANNELS=channels)
    return image


def _pack_weight(problem: rules.Problem) -> Tensor:
    """[D, C_out, C/groups, Kh, Kw] as [C, T, C_out/groups]: what one step of a kernel needs is one run of memory."""
    branches, out_channels, group_channels = problem.weight.shape[:3]
    groups = problem.groups
    cut = problem.weight.reshape(branches, groups, out_channels // groups, group_channels, problem.taps)
    packed = cut.permute(1, 3, 0, 4, 2).contiguous()
    return packed.view(groups * group_channels, branches * problem.taps, out_channels // groups)


def _unpack_weight(packed: Tensor, problem: rules.Problem) -> Tensor:
    """The inverse, in the weight's own type, dense as the fake kernel promises."""
    branches, out_channels, group_channels = problem.weight.shape[:3]
    groups = problem.groups
    cut = packed.view(groups, group_channels, branches, problem.taps, out_channels // groups).permute(2, 0, 4, 1, 3)
    unpacked = gradient_like(problem.weight, wanted=True)
    unpacked.view(cut.shape).copy_(cut)
    return unpacked


def warp(
    input: Tensor,
    offsets: Sequence[Tensor],
    masks: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    scale: float,
) -> Tensor:
    """Formula 8, of a problem that the kernels can take."""
    problem = rules.Problem(input, offsets, masks, weight, bias, stride, padding, dilation)
    rules.check(problem)
    output = input.new_empty(problem.output_shape)
    if output.numel() == 0:
        return output
    with torch.cuda.device_of(input):
        ready = Prepared.of(problem)
        bias = None if bias is None else bias.contiguous()
        if not is_split(ready.shape, ready.settings, ready.device):
            _forward(ready, bias, output, scale, split=False)
            return output
        parts = ready.settings.parts
        partials = output.new_empty((parts, *output.shape), dtype=torch.float32)
        _forward(ready, None, partials, scale, split=True)
        size = output.numel()
        call(
            sampling.add_parts,
            cdiv(size, BLOCK),
            *(partials, bias, output, size, parts, ready.shape, scale),
            BLOCK=BLOCK,
        )
    return output


def _forward(ready: Prepared, bias: Tensor | None, output: Tensor, scale: float, split: bool) -> None:
    shape, settings, tile = ready.shape, ready.settings, ready.settings.forward
    tiles, parts = ready.tiles(tile), settings.parts
    programs = shape.samples * shape.groups * settings.blocks * tiles * (parts if split else 1)
    tensors = (ready.image, ready.offsets, ready.masks, ready.weight, bias, output)
    arguments = (*tensors, shape, ready.branches, scale, tiles, settings.blocks, parts)
    constants = ready.constants(tile)
    if settings.planar:
        call(planar.planar_forward, programs, *arguments, SPLIT=split, **constants)
    else:
        cuts = (settings.channel_parts, settings.part_channels, settings.part_taps)
        call(shared.shared_forward, programs, *arguments, *cuts, SPLIT=split, **constants)


@dataclass(frozen=True)
class Wanted:
    """Which gradients are asked for."""

    input: bool
    offsets: bool
    masks: bool
    weight: bool


class GradInput:
    """Where the pixels' gradients are added up, by atomic additions.

    Additions in float32 round, and so depend on their order. Where ``torch.use_deterministic_algorithms`` is on,
    integers are added instead: multiples of 2^-k for each plane, with k as large as the sum of all that may arrive
    there allows. That loses less than float32 does, unless all that arrives is some 10^11 times larger than a gradient
    that matters; a plane at which something not finite may arrive is NaN as a whole.
    """

    def __init__(self, problem: rules.Problem, grad_output: Tensor, scale: float, channels_last: bool) -> None:
        samples, channels, height, width = problem.input.shape
        self.fixed = torch.are_deterministic_algorithms_enabled()
        self.multiples = _multiples(problem, grad_output, scale) if self.fixed else None
        height, width = height + 2, width + 2  # a cell of which one pixel is inside adds to all four
        form = (samples, height, width, channels) if channels_last else (samples, channels, height, width)
        self.sums = grad_output.new_zeros(form, dtype=torch.int64 if self.fixed else torch.float32)
        self.channels_last = channels_last

    def result(self, dtype: torch.dtype) -> Tensor:
        """[N, C, H, W]."""
        sums = self.sums.permute(0, 3, 1, 2) if self.channels_last else self.sums
        sums = sums[:, :, 1:-1, 1:-1]
        if self.multiples is not None:
            sums = sums / self.multiples.double()[:, :, None, None]
        return sums.to(dtype).contiguous()


def _multiples(problem: rules.Problem, grad_output: Tensor, scale: float) -> Tensor:
    """[N, C] powers of two: what arrives at a plane in all (formula 9), times its power, stays below 2^61."""
    weight = problem.weight.double().abs().sum((0, 3, 4)).view(problem.groups, -1, problem.weight.shape[2])
    arriving = grad_output.double().abs().sum((2, 3)).view(grad_output.shape[0], problem.groups, -1)
    bound = abs(scale) * torch.einsum("ngq,gqc->ngc", arriving, weight).reshape(problem.input.shape[:2])
    if problem.masks:
        bound *= torch.stack([mask.abs().amax((1, 2, 3)).double() for mask in problem.masks]).amax(0)[:, None]
    exponent = torch.frexp(torch.where(bound.isfinite(), bound, 1)).exponent
    multiples = torch.ldexp(torch.ones_like(bound), (61 - exponent).clamp(-126, 126))
    return torch.where(bound.isfinite(), multiples, torch.nan).float()


def warp_backward(
    grad_output: Tensor,
    input: Tensor,
    offsets: Sequence[Tensor],
    masks: Sequence[Tensor],
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    scale: float,
    input_wanted: bool,
    offsets_wanted: bool,
    masks_wanted: bool,
    weight_wanted: bool,
) -> Gradients:
    """Formulas 9 to 12, of a problem that the kernels can take."""
    problem = rules.Problem(input, offsets, masks, weight, None, stride, padding, dilation, grad_output=grad_output)
    rules.check(problem)
    wanted = Wanted(input_wanted, offsets_wanted, masks_wanted and len(masks) > 0, weight_wanted)
    grad_offsets = [gradient_like(offset, offsets_wanted) for offset in offsets]
    grad_masks = [gradient_like(mask, masks_wanted) for mask in masks]
    if grad_output.numel() == 0:
        grad_weight = gradient_like(weight, weight_wanted).zero_()
        return gradient_like(input, input_wanted), grad_offsets, grad_masks, grad_weight
    with torch.cuda.device_of(input):
        ready = Prepared.of(problem)
        grad_output = grad_output.contiguous()
        grad_input = GradInput(problem, grad_output, scale, not ready.settings.planar) if input_wanted else None
        backward = _planar_backward if ready.settings.planar else _shared_backward
        partial_weights = backward(
            ready,
            grad_output,
            grad_input,
            tuple(grad_offsets) if wanted.offsets else (),
            tuple(grad_masks) if wanted.masks else (),
            scale,
            weight_wanted,
        )
        return (
            input.new_empty(0) if grad_input is None else grad_input.result(input.dtype),
            grad_offsets,
            grad_masks,
            weight.new_empty(0) if partial_weights is None else _unpack_weight(partial_weights.sum(0), problem),
        )


def _partial_weights(ready: Prepared, chunks: int) -> Tensor:
    return ready.weight.new_empty((chunks, *ready.weight.shape), dtype=torch.float32)


def _gradient_strides(ready: Prepared) -> Branches:
    """Those of new, dense gradients."""
    shape, branches = ready.shape, len(ready.offsets)
    plane = shape.offset_groups * shape.taps * shape.out_area
    return ready.branches._replace(offset_strides=(2 * plane,) * branches, mask_strides=(plane,) * branches)


def _planar_backward(
    ready: Prepared,
    grad_output: Tensor,
    grad_input: GradInput | None,
    grad_offsets: tuple[Tensor, ...],
    grad_masks: tuple[Tensor, ...],
    scale: float,
    weight_wanted: bool,
) -> Tensor | None:
    """The chunks' parts of the weight's gradient, if it is wanted."""
    shape, settings, tile = ready.shape, ready.settings, ready.settings.backward
    tiles = ready.tiles(tile)
    tap_blocks = cdiv(len(ready.offsets) * shape.taps, settings.taps)
    programs = shape.channels * tap_blocks
    chunk = chunk_tiles(shape.samples * tiles, programs, ready.device)
    chunks = cdiv(shape.samples * tiles, chunk)
    grad_weights = _partial_weights(ready, chunks) if weight_wanted else None
    call(
        planar.planar_backward,
        programs * chunks,
        *(ready.image, ready.offsets, ready.masks, ready.weight, grad_output),
        *(None if grad_input is None else grad_input.sums, grad_offsets, grad_masks, grad_weights),
        *(None if grad_input is None else grad_input.multiples, shape, ready.branches, _gradient_strides(ready)),
        *(scale, tiles, tap_blocks, chunk),
        FIXED=grad_input is not None and grad_input.fixed,
        **ready.constants(tile),
    )
    return grad_weights


def _shared_backward(
    ready: Prepared,
    grad_output: Tensor,
    grad_input: GradInput | None,
    grad_offsets: tuple[Tensor, ...],
    grad_masks: tuple[Tensor, ...],
    scale: float,
    weight_wanted: bool,
) -> Tensor | None:
    """The chunks' parts of the weight's gradient, if it is wanted."""
    shape, settings, tile = ready.shape, ready.settings, ready.settings.backward
    tiles, all_taps = ready.tiles(tile), len(ready.offsets) * shape.taps
    constants = ready.constants(tile)
    if grad_input is not None or grad_offsets or grad_masks:
        call(
            shared.shared_backward,
            shape.samples * shape.offset_groups * all_taps * tiles,
            *(ready.image, ready.offsets, ready.masks, ready.weight, grad_output),
            *(None if grad_input is None else grad_input.sums, grad_offsets, grad_masks),
            *(None if grad_input is None else grad_input.multiples, shape, ready.branches, _gradient_strides(ready)),
            *(scale, tiles),
            FIXED=grad_input is not None and grad_input.fixed,
            **constants,
        )
    if not weight_wanted:
        return None
    segments, channel_blocks = shape.channels // shape.segment, cdiv(shape.segment, settings.channels)
    programs = settings.blocks * all_taps * channel_blocks * segments
    chunk = chunk_tiles(shape.samples * tiles, programs, ready.device)
    chunks = cdiv(shape.samples * tiles, chunk)
    grad_weights = _partial_weights(ready, chunks)
    call(
        shared.shared_weight_backward,
        programs * chunks,
        *(ready.image, ready.offsets, ready.masks, grad_output, grad_weights, shape, ready.branches),
        *(scale, tiles, settings.blocks, chunk),
        **constants,
    )
    return grad_weights
