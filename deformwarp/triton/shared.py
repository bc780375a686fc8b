"""Kernels for channels that share offsets: tiles [pixel, channel], one tap after another.

The image has its channels last, so that one position serves a run of memory. Channels are cut into **segments** that
share both an offset group and a weight group. Arguments are those of ``planar.py`` where nothing else is said.
"""

import triton
import triton.language as tl

from deformwarp.triton.products import halves, product
from deformwarp.triton.sampling import (
    cell_of,
    finished,
    forward_program,
    kernel,
    origins_of_pixels,
    origins_of_taps,
    planes_of_taps,
    scatter,
    slopes_of,
    value_of,
)


@triton.jit
def cells_of_tap(tap, offset_group, sample, pixel, in_plane, offsets, shape, branches):
    """top, left, ly, lx [PIXELS] of one tap; a sample beyond the edges is 0."""
    pixel_y, pixel_x = origins_of_pixels(pixel, shape)
    tap_y, tap_x = origins_of_taps(tap, shape, branches)
    offset = planes_of_taps(offsets, branches.offset_strides, sample, offset_group, tap, shape, 2) + pixel
    dy = tl.load(offset, mask=in_plane, other=float("nan"))
    dx = tl.load(offset + shape.out_area, mask=in_plane, other=float("nan"))
    top, ly = cell_of(pixel_y + tap_y, dy, shape.height)
    left, lx = cell_of(pixel_x + tap_x, dx, shape.width)
    return top, left, ly, lx


@triton.jit
def masks_of_tap(tap, offset_group, sample, pixel, in_plane, masks, shape, branches):
    """The factors [PIXELS] of one tap."""
    mask = planes_of_taps(masks, branches.mask_strides, sample, offset_group, tap, shape, 1)
    return tl.load(mask + pixel, mask=in_plane, other=0.0).to(tl.float32)


@triton.jit
def channel_block(start, end, VECTOR: tl.constexpr, CHANNELS: tl.constexpr):
    """Channels from ``start`` on and which of them lie before ``end``; VECTOR divides both."""
    channel = tl.multiple_of(start, VECTOR) + tl.arange(0, CHANNELS)
    return channel, channel < tl.multiple_of(end, VECTOR)


@triton.jit
def corners_of(image, sample, top, left, channel, in_channels, shape, VECTOR: tl.constexpr):
    """v00, v01, v10, v11 [PIXELS, CHANNELS] of cells in an image [N, H + 4, W + 4, C] that starts at pixel (-2, -2)."""
    first = sample * ((shape.height + 4) * (shape.width + 4)) + ((top + 2) * (shape.width + 4) + (left + 2))
    right = tl.multiple_of(tl.cast(shape.channels, tl.int32), VECTOR)  # a number in a tuple may be a constant 1
    down = tl.multiple_of(tl.cast(shape.width + 4, tl.int64) * shape.channels, VECTOR)
    cell = image + tl.multiple_of(first * shape.channels, VECTOR)[:, None] + channel[None, :]
    v00 = tl.load(cell, mask=in_channels[None, :], other=0.0).to(tl.float32)
    v01 = tl.load(cell + right, mask=in_channels[None, :], other=0.0).to(tl.float32)
    v10 = tl.load(cell + down, mask=in_channels[None, :], other=0.0).to(tl.float32)
    v11 = tl.load(cell + (down + right), mask=in_channels[None, :], other=0.0).to(tl.float32)
    return v00, v01, v10, v11


@kernel
def shared_forward(
    image,  # [N, H + 4, W + 4, C] of packing.pack_channels_last
    offsets,  # D x [N, 2*G*K, Ho, Wo]
    masks,
    weight,  # [C, T, C_out/groups]
    bias,
    output,
    shape,
    branches,
    scale,
    tiles,
    blocks,
    parts,  # channel_parts * segments of a group * tap_parts
    channel_parts,  # of a segment
    part_channels,
    part_taps,
    DTYPE: tl.constexpr,
    SPLIT: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    VECTOR: tl.constexpr,  # a power of two that divides all runs of channels
    OUT: tl.constexpr,
    TF32: tl.constexpr,
):
    """Formula 8."""
    tile, block, group, first_part, last_part, sample = forward_program(tiles, blocks, parts, shape, SPLIT)

    pixel = tile * PIXELS + tl.arange(0, PIXELS)
    in_plane = pixel < shape.out_area
    out = block * OUT + tl.arange(0, OUT)
    in_out = out < shape.group_out_channels
    all_taps = shape.taps * len(offsets)
    segments = shape.group_channels // shape.segment

    total = tl.zeros((PIXELS, OUT), tl.float32)
    for part in range(first_part, last_part):
        segment_start = group * shape.group_channels + part // channel_parts % segments * shape.segment
        offset_group = segment_start // shape.offset_group_channels
        first_channel = segment_start + part % channel_parts * part_channels
        last_channel = tl.minimum(first_channel + part_channels, segment_start + shape.segment)
        first_tap = part // (channel_parts * segments) * part_taps
        last_tap = tl.minimum(first_tap + part_taps, all_taps)
        partial = tl.zeros((PIXELS, OUT), tl.float32)
        for tap in range(first_tap, last_tap):
            top, left, ly, lx = cells_of_tap(tap, offset_group, sample, pixel, in_plane, offsets, shape, branches)
            if len(masks) > 0:
                mask = masks_of_tap(tap, offset_group, sample, pixel, in_plane, masks, shape, branches)
            for start in range(first_channel, last_channel, CHANNELS):
                channel, in_channels = channel_block(start, last_channel, VECTOR, CHANNELS)
                v00, v01, v10, v11 = corners_of(image, sample, top, left, channel, in_channels, shape, VECTOR)
                samples = value_of(v00, v01, v10, v11, ly[:, None], lx[:, None])
                if len(masks) > 0:
                    samples *= mask[:, None]
                place = (channel.to(tl.int64) * all_taps + tap)[:, None] * shape.group_out_channels + out[None, :]
                rows, rows_lower = halves(samples.to(DTYPE), TF32)
                in_weight = in_channels[:, None] & in_out[None, :]
                factors, factors_lower = halves(tl.load(weight + place, mask=in_weight, other=0.0), TF32)
                partial = product(rows, rows_lower, factors, factors_lower, partial, TF32)
        total += partial

    out_channel = group * shape.group_out_channels + out
    stored = in_plane[:, None] & in_out[None, :]
    if SPLIT:
        plane = (tl.cast(first_part, tl.int64) * shape.samples + sample) * shape.out_channels + out_channel
        tl.store(output + (plane * shape.out_area)[None, :] + pixel[:, None], total, mask=stored)
    else:
        plane = sample * shape.out_channels + out_channel
        result = finished(total, bias, out_channel[None, :], in_out[None, :], scale)
        tl.store(output + (plane * shape.out_area)[None, :] + pixel[:, None], result.to(DTYPE), mask=stored)


@triton.jit
def arriving_at(grad_output, sample, out_channel, in_out, pixel, in_plane, shape):
    """grad_output as [PIXELS, OUT]; 0 beyond the edges."""
    plane = (sample * shape.out_channels + out_channel) * shape.out_area
    return tl.load(grad_output + plane[None, :] + pixel[:, None], mask=in_plane[:, None] & in_out[None, :], other=0.0)


@kernel
def shared_backward(
    image,
    offsets,
    masks,
    weight,
    grad_output,  # [N, C_out, Ho, Wo]
    grad_input,  # [N, H + 2, W + 2, C] of zeros: float32, or where FIXED int64; or None
    grad_offsets,  # D x [N, 2*G*K, Ho, Wo], or none
    grad_masks,  # D x [N, G*K, Ho, Wo], or none
    multiples,  # [N, C]: of what the integers in grad_input stand for; or None
    shape,
    branches,
    gradient_strides,  # arguments.Branches for grad_offsets and grad_masks
    scale,
    tiles,
    DTYPE: tl.constexpr,
    FIXED: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    VECTOR: tl.constexpr,
    OUT: tl.constexpr,
    TF32: tl.constexpr,
):
    """Formulas 9, 10 and 12. A program has one tap and one offset group, and sums over the group's channels."""
    program = tl.program_id(0)
    tile = program % tiles
    program = program // tiles
    all_taps = shape.taps * len(offsets)
    tap = program % all_taps
    program = program // all_taps
    offset_groups = shape.channels // shape.offset_group_channels
    offset_group = program % offset_groups
    sample = (program // offset_groups).to(tl.int64)

    pixel = tile * PIXELS + tl.arange(0, PIXELS)
    in_plane = pixel < shape.out_area
    top, left, ly, lx = cells_of_tap(tap, offset_group, sample, pixel, in_plane, offsets, shape, branches)
    if len(masks) > 0:
        mask = masks_of_tap(tap, offset_group, sample, pixel, in_plane, masks, shape, branches)
    sum_y = tl.zeros((PIXELS,), tl.float32)
    sum_x = tl.zeros((PIXELS,), tl.float32)
    sum_values = tl.zeros((PIXELS,), tl.float32)
    group_start = offset_group * shape.offset_group_channels
    for segment_start in range(group_start, group_start + shape.offset_group_channels, shape.segment):
        first_out = segment_start // shape.group_channels * shape.group_out_channels
        for start in range(segment_start, segment_start + shape.segment, CHANNELS):
            channel, in_channels = channel_block(start, segment_start + shape.segment, VECTOR, CHANNELS)
            gamma = tl.zeros((PIXELS, CHANNELS), tl.float32)
            for out_start in range(0, shape.group_out_channels, OUT):
                out = out_start + tl.arange(0, OUT)
                in_out = out < shape.group_out_channels
                place = (channel.to(tl.int64) * all_taps + tap)[None, :] * shape.group_out_channels + out[:, None]
                in_weight = in_channels[None, :] & in_out[:, None]
                factors, factors_lower = halves(tl.load(weight + place, mask=in_weight, other=0.0), TF32)
                arriving = arriving_at(grad_output, sample, first_out + out, in_out, pixel, in_plane, shape)
                arriving, arriving_lower = halves(arriving, TF32)
                gamma = product(arriving, arriving_lower, factors, factors_lower, gamma, TF32)
            gamma *= scale
            v00, v01, v10, v11 = corners_of(image, sample, top, left, channel, in_channels, shape, VECTOR)
            if len(grad_offsets) > 0:
                slope_y, slope_x = slopes_of(v00, v01, v10, v11, ly[:, None], lx[:, None])
                sum_y += tl.sum(gamma * slope_y, 1)
                sum_x += tl.sum(gamma * slope_x, 1)
            if len(grad_masks) > 0:
                sum_values += tl.sum(gamma * value_of(v00, v01, v10, v11, ly[:, None], lx[:, None]), 1)
            if grad_input is not None:
                if len(masks) > 0:
                    gamma *= mask[:, None]
                multiple = 1.0
                if FIXED:
                    of_channel = multiples + sample * shape.channels + channel
                    multiple = tl.load(of_channel, mask=in_channels, other=0.0)[None, :]
                pitch = tl.cast(shape.width + 2, tl.int64) * shape.channels
                first = sample * (shape.height + 2) * pitch + (pitch + shape.channels)
                scatter(
                    grad_input + first + channel[None, :],
                    pitch,
                    shape.channels,
                    top[:, None],
                    left[:, None],
                    ly[:, None],
                    lx[:, None],
                    gamma,
                    multiple,
                    in_plane[:, None] & in_channels[None, :],
                    shape,
                    FIXED,
                )
    if len(grad_masks) > 0:
        place = planes_of_taps(grad_masks, gradient_strides.mask_strides, sample, offset_group, tap, shape, 1)
        tl.store(place + pixel, sum_values.to(DTYPE), mask=in_plane)
    if len(grad_offsets) > 0:
        if len(masks) > 0:
            sum_y *= mask
            sum_x *= mask
        place = planes_of_taps(grad_offsets, gradient_strides.offset_strides, sample, offset_group, tap, shape, 2)
        tl.store(place + pixel, sum_y.to(DTYPE), mask=in_plane)
        tl.store(place + shape.out_area + pixel, sum_x.to(DTYPE), mask=in_plane)


@kernel
def shared_weight_backward(
    image,
    offsets,
    masks,
    grad_output,  # [N, C_out, Ho, Wo]
    grad_weights,  # [chunks, C, T, C_out/groups] in float32
    shape,
    branches,
    scale,
    tiles,
    blocks,  # of a group's output channels
    chunk,  # tiles of one program; the tiles of all samples are counted through
    DTYPE: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    VECTOR: tl.constexpr,
    OUT: tl.constexpr,
    TF32: tl.constexpr,
):
    """Formula 11. A program has one tap, and one block of channels on either side."""
    program = tl.program_id(0)
    block = program % blocks
    program = program // blocks
    all_taps = shape.taps * len(offsets)
    tap = program % all_taps
    program = program // all_taps
    channel_blocks = tl.cdiv(shape.segment, CHANNELS)
    block_start = program % channel_blocks * CHANNELS
    program = program // channel_blocks
    segments = shape.channels // shape.segment
    segment_start = program % segments * shape.segment
    chunk_number = program // segments

    channel, in_channels = channel_block(segment_start + block_start, segment_start + shape.segment, VECTOR, CHANNELS)
    offset_group = segment_start // shape.offset_group_channels
    out = block * OUT + tl.arange(0, OUT)
    in_out = out < shape.group_out_channels
    out_channel = segment_start // shape.group_channels * shape.group_out_channels + out
    grad_weight = tl.zeros((CHANNELS, OUT), tl.float32)
    last_tile = tl.minimum((chunk_number + 1) * chunk, shape.samples * tiles)
    for numbered_tile in range(chunk_number * chunk, last_tile):
        sample = (numbered_tile // tiles).to(tl.int64)
        pixel = numbered_tile % tiles * PIXELS + tl.arange(0, PIXELS)
        in_plane = pixel < shape.out_area
        top, left, ly, lx = cells_of_tap(tap, offset_group, sample, pixel, in_plane, offsets, shape, branches)
        v00, v01, v10, v11 = corners_of(image, sample, top, left, channel, in_channels, shape, VECTOR)
        values = value_of(v00, v01, v10, v11, ly[:, None], lx[:, None])
        if len(masks) > 0:
            values *= masks_of_tap(tap, offset_group, sample, pixel, in_plane, masks, shape, branches)[:, None]
        arriving = arriving_at(grad_output, sample, out_channel, in_out, pixel, in_plane, shape)
        arriving, arriving_lower = halves(arriving, TF32)
        columns, columns_lower = halves(tl.trans(values.to(DTYPE)), TF32)
        grad_weight = product(columns, columns_lower, arriving, arriving_lower, grad_weight, TF32)
    place = (channel.to(tl.int64) * all_taps + tap)[:, None] * shape.group_out_channels + out[None, :]
    part = grad_weights + chunk_number.to(tl.int64) * shape.channels * all_taps * shape.group_out_channels
    tl.store(part + place, grad_weight * scale, mask=in_channels[:, None] & in_out[None, :])
