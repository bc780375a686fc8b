"""Kernels for one offset group per channel: tiles of taps and pixels, one channel after another.

The offsets are all the traffic. Taps of all branches are one axis, T = D*Kh*Kw, so that the sum over branches is part
of the matrix product. A tile is [STRIPS, TAPS, LANES]: its pixels are strips of as many neighbours as a warp has lanes.
So neighbouring lanes load, sample and store neighbours, and a thread has few taps, whose addresses serve all strips.

Taps beyond the last one are computed as the last one is, with weights of 0. Pixels beyond a plane have NaN for offsets,
and so samples of 0; where planes are whole tiles (WHOLE) there are none, and no load has a mask.
"""

import triton
import triton.language as tl

from deformwarp.triton.products import halves, product
from deformwarp.triton.sampling import (
    cell_of,
    finished,
    forward_program,
    kernel,
    of_branch,
    origins_of_pixels,
    origins_of_taps,
    planes_of_taps,
    scatter,
    slopes_of,
    value_of,
)


@triton.jit
def unpacked(pair, DTYPE: tl.constexpr):
    """The two numbers of a word that ``packing.pack_pairs`` wrote, in float32."""
    if tl.float32 == DTYPE:
        low = pair.to(tl.int32)
        high = (pair >> 32).to(tl.int32)
    else:
        low = pair.to(tl.int16)
        high = (pair >> 16).to(tl.int16)
    return low.to(DTYPE, bitcast=True).to(tl.float32), high.to(DTYPE, bitcast=True).to(tl.float32)


@triton.jit
def corners_of(plane, top, left, pitch, DTYPE: tl.constexpr):
    """v00, v01, v10, v11 of cells in a plane of pairs, given where its pixel (0, 0) is."""
    cell = plane + (top * pitch + left)
    v00, v10 = unpacked(tl.load(cell), DTYPE)
    v01, v11 = unpacked(tl.load(cell + 1), DTYPE)
    return v00, v01, v10, v11


@triton.jit
def pixels_of_tile(tile, STRIPS: tl.constexpr, LANES: tl.constexpr):
    """Numbers of a tile's pixels [STRIPS, 1, LANES]. Strips are apart by what the compiler knows."""
    lane = tile * (STRIPS * LANES) + tl.arange(0, LANES)
    return lane[None, None, :] + (tl.arange(0, STRIPS) * LANES)[:, None, None]


@triton.jit
def load_at(planes, pixel, in_plane, beyond, WHOLE: tl.constexpr):
    """What the planes [1, TAPS, 1] hold for pixels [STRIPS, 1, LANES]; ``beyond`` for those beyond them."""
    return tl.load(planes + pixel) if WHOLE else tl.load(planes + pixel, mask=in_plane, other=beyond)


@triton.jit
def row(vector):
    """[TAPS] as [1, TAPS, 1]."""
    return vector[None, :, None]


@triton.jit
def as_matrix(tile):
    """[STRIPS, TAPS, LANES] as [TAPS, PIXELS]."""
    return tl.reshape(tl.permute(tile, (1, 0, 2)), (tile.shape[1], tile.shape[0] * tile.shape[2]))


@triton.jit
def as_tile(matrix, STRIPS: tl.constexpr, LANES: tl.constexpr):
    """[TAPS, PIXELS] as [STRIPS, TAPS, LANES]."""
    return tl.permute(tl.reshape(matrix, (matrix.shape[0], STRIPS, LANES)), (1, 0, 2))


@kernel
def planar_forward(
    pairs,  # [N, C, H + 3, W + 4] of packing.pack_pairs
    offsets,  # D x [N, 2*C*K, Ho, Wo]; a sample is dense
    masks,  # none, or D x [N, C*K, Ho, Wo]; a sample is dense
    weight,  # [C, T, C_out/groups]
    bias,  # [C_out] or None
    output,  # [N, C_out, Ho, Wo], or where SPLIT [parts, N, C_out, Ho, Wo] in float32
    shape,  # arguments.Shape
    branches,  # arguments.Branches
    scale,
    tiles,  # of an output plane
    blocks,  # of a group's output channels
    parts,  # blocks of TAPS: each is summed by itself, and the sums in order, whoever computes them
    DTYPE: tl.constexpr,
    WHOLE: tl.constexpr,  # Ho * Wo is a multiple of a tile's pixels
    SPLIT: tl.constexpr,  # a program has one part instead of all
    TAPS: tl.constexpr,
    STRIPS: tl.constexpr,
    LANES: tl.constexpr,
    OUT: tl.constexpr,
    TF32: tl.constexpr,
):
    """Formula 8."""
    tile, block, group, first_part, last_part, sample = forward_program(tiles, blocks, parts, shape, SPLIT)

    pixel = pixels_of_tile(tile, STRIPS, LANES)
    in_plane = pixel < shape.out_area
    pixel_y, pixel_x = origins_of_pixels(pixel, shape)
    out = block * OUT + tl.arange(0, OUT)
    in_out = out < shape.group_out_channels
    all_taps = shape.taps * len(offsets)
    first_channel = group * shape.group_channels
    last_channel = first_channel + shape.group_channels
    pitch = shape.width + 4
    pair_area = tl.cast((shape.height + 3) * pitch, tl.int64)
    mask_step = tl.cast(shape.taps, tl.int64) * shape.out_area

    total = tl.zeros((OUT, STRIPS * LANES), tl.float32)
    for part in range(first_part, last_part):
        tap = part * TAPS + tl.arange(0, TAPS)
        in_weight = (tap < all_taps)[None, :] & in_out[:, None]
        tap = tl.minimum(tap, all_taps - 1)
        tap_y, tap_x = origins_of_taps(tap, shape, branches)
        origin_y = pixel_y + row(tap_y)
        origin_x = pixel_x + row(tap_x)
        offset = row(planes_of_taps(offsets, branches.offset_strides, sample, first_channel, tap, shape, 2))
        if len(masks) > 0:
            mask = row(planes_of_taps(masks, branches.mask_strides, sample, first_channel, tap, shape, 1))
        plane = pairs + (sample * shape.channels + first_channel) * pair_area + (2 * pitch + 2)
        place = (tl.cast(first_channel, tl.int64) * all_taps + tap)[None, :] * shape.group_out_channels + out[:, None]
        dy = load_at(offset, pixel, in_plane, float("nan"), WHOLE)
        dx = load_at(offset + shape.out_area, pixel, in_plane, float("nan"), WHOLE)
        partial = tl.zeros((OUT, STRIPS * LANES), tl.float32)
        for channel in range(first_channel, last_channel):
            factors, factors_lower = halves(tl.load(weight + place, mask=in_weight, other=0.0), TF32)
            top, ly = cell_of(origin_y, dy, shape.height)
            left, lx = cell_of(origin_x, dx, shape.width)
            # The next channel's offsets are on their way while this one's samples are computed; the last one has none,
            # and loads its own again.
            offset += 2 * mask_step * tl.minimum(last_channel - 1 - channel, 1)
            dy = load_at(offset, pixel, in_plane, float("nan"), WHOLE)
            dx = load_at(offset + shape.out_area, pixel, in_plane, float("nan"), WHOLE)
            v00, v01, v10, v11 = corners_of(plane, top, left, pitch, DTYPE)
            samples = value_of(v00, v01, v10, v11, ly, lx)
            if len(masks) > 0:
                samples *= load_at(mask, pixel, in_plane, 0.0, WHOLE).to(tl.float32)
                mask += mask_step
            columns, columns_lower = halves(as_matrix(samples.to(DTYPE)), TF32)
            partial = product(factors, factors_lower, columns, columns_lower, partial, TF32)
            plane += pair_area
            place += all_taps * shape.group_out_channels
        total += partial

    out_channel = group * shape.group_out_channels + out
    place = tile * (STRIPS * LANES) + tl.arange(0, STRIPS * LANES)
    stored = in_out[:, None] & (place < shape.out_area)[None, :]
    if SPLIT:
        plane_number = (tl.cast(first_part, tl.int64) * shape.samples + sample) * shape.out_channels + out_channel
        tl.store(output + (plane_number * shape.out_area)[:, None] + place[None, :], total, mask=stored)
    else:
        plane_number = sample * shape.out_channels + out_channel
        result = finished(total, bias, out_channel[:, None], in_out[:, None], scale)
        tl.store(output + (plane_number * shape.out_area)[:, None] + place[None, :], result.to(DTYPE), mask=stored)


@kernel
def planar_backward(
    pairs,
    offsets,
    masks,
    weight,
    grad_output,  # [N, C_out, Ho, Wo]
    grad_input,  # [N, C, H + 2, W + 2] of zeros: float32, or where FIXED int64; or None
    grad_offsets,  # D x [N, 2*C*K, Ho, Wo], or none
    grad_masks,  # D x [N, C*K, Ho, Wo], or none
    grad_weights,  # [chunks, C, T, C_out/groups] in float32, or None
    multiples,  # [N, C]: of what the integers in grad_input stand for; or None
    shape,
    branches,
    gradient_strides,  # arguments.Branches for grad_offsets and grad_masks
    scale,
    tiles,
    tap_blocks,
    chunk,  # tiles of one program; the tiles of all samples are counted through
    DTYPE: tl.constexpr,
    WHOLE: tl.constexpr,
    FIXED: tl.constexpr,
    TAPS: tl.constexpr,
    STRIPS: tl.constexpr,
    LANES: tl.constexpr,
    OUT: tl.constexpr,  # all of a group's output channels
    TF32: tl.constexpr,
):
    """Formulas 9 to 12. A program has one channel and one block of taps, and so a place of its own in grad_weights."""
    program = tl.program_id(0)
    first_tap = program % tap_blocks * TAPS
    program = program // tap_blocks
    channel = program % shape.channels
    chunk_number = program // shape.channels

    all_taps = shape.taps * len(offsets)
    tap = first_tap + tl.arange(0, TAPS)
    in_taps = tap < all_taps
    tap = tl.minimum(tap, all_taps - 1)
    tap_y, tap_x = origins_of_taps(tap, shape, branches)
    out = tl.arange(0, OUT)
    in_out = out < shape.group_out_channels
    out_channel = channel // shape.group_channels * shape.group_out_channels + out
    weight_place = (tl.cast(channel, tl.int64) * all_taps + tap)[:, None] * shape.group_out_channels + out[None, :]
    in_weight = in_taps[:, None] & in_out[None, :]
    factors, factors_lower = halves(tl.load(weight + weight_place, mask=in_weight, other=0.0), TF32)
    grad_weight = tl.zeros((TAPS, OUT), tl.float32)
    first = tl.zeros((1,), tl.int64)
    offset_origin = row(planes_of_taps(offsets, branches.offset_strides, first, channel, tap, shape, 2))
    offset_step = row(of_branch(branches.offset_strides, tap // shape.taps)).to(tl.int64)
    pitch = shape.width + 4

    last_tile = tl.minimum((chunk_number + 1) * chunk, shape.samples * tiles)
    for numbered_tile in range(chunk_number * chunk, last_tile):
        sample = (numbered_tile // tiles).to(tl.int64)
        pixel = pixels_of_tile(numbered_tile % tiles, STRIPS, LANES)
        in_plane = pixel < shape.out_area
        valid = row(in_taps) & in_plane
        offset = offset_origin + sample * offset_step
        dy = load_at(offset, pixel, in_plane, float("nan"), WHOLE)
        dx = load_at(offset + shape.out_area, pixel, in_plane, float("nan"), WHOLE)
        place = numbered_tile % tiles * (STRIPS * LANES) + tl.arange(0, STRIPS * LANES)
        out_plane = (sample * shape.out_channels + out_channel) * shape.out_area
        arriving = tl.load(
            grad_output + out_plane[:, None] + place[None, :],
            mask=in_out[:, None] & (place < shape.out_area)[None, :],
            other=0.0,
        )
        arriving, arriving_lower = halves(arriving, TF32)
        gamma = tl.zeros((TAPS, STRIPS * LANES), tl.float32)
        gamma = product(factors, factors_lower, arriving, arriving_lower, gamma, TF32) * scale
        gamma = as_tile(gamma, STRIPS, LANES)

        pixel_y, pixel_x = origins_of_pixels(pixel, shape)
        top, ly = cell_of(pixel_y + row(tap_y), dy, shape.height)
        left, lx = cell_of(pixel_x + row(tap_x), dx, shape.width)
        number = sample * shape.channels + channel
        plane = pairs + number * ((shape.height + 3) * pitch) + (2 * pitch + 2)
        v00, v01, v10, v11 = corners_of(plane, top, left, pitch, DTYPE)
        values = value_of(v00, v01, v10, v11, ly, lx)
        if len(grad_masks) > 0:
            target = planes_of_taps(grad_masks, gradient_strides.mask_strides, sample, channel, tap, shape, 1)
            tl.store(row(target) + pixel, (gamma * values).to(DTYPE), mask=valid)
        if len(masks) > 0:
            mask = planes_of_taps(masks, branches.mask_strides, sample, channel, tap, shape, 1)
            factor = load_at(row(mask), pixel, in_plane, 0.0, WHOLE).to(tl.float32)
            gamma *= factor
            values *= factor
        if len(grad_offsets) > 0:
            slope_y, slope_x = slopes_of(v00, v01, v10, v11, ly, lx)
            target = planes_of_taps(grad_offsets, gradient_strides.offset_strides, sample, channel, tap, shape, 2)
            target = row(target) + pixel
            tl.store(target, (gamma * slope_y).to(DTYPE), mask=valid)
            tl.store(target + shape.out_area, (gamma * slope_x).to(DTYPE), mask=valid)
        if grad_weights is not None:
            columns, columns_lower = halves(as_matrix(values.to(DTYPE)), TF32)
            arriving, arriving_lower = tl.trans(arriving), tl.trans(arriving_lower)
            grad_weight = product(columns, columns_lower, arriving, arriving_lower, grad_weight, TF32)
        if grad_input is not None:
            multiple = 1.0
            if FIXED:
                multiple = tl.load(multiples + number)
            width = shape.width + 2
            image = grad_input + number * (shape.height + 2) * width + (width + 1)
            scatter(image, width, 1, top, left, ly, lx, gamma, multiple, valid, shape, FIXED)
    if grad_weights is not None:
        part = grad_weights + chunk_number.to(tl.int64) * shape.channels * all_taps * shape.group_out_channels
        tl.store(part + weight_place, grad_weight * scale, mask=in_weight)
