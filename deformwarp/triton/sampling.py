"""One bilinear sample, for every kernel: taps, positions, cells, value, derivatives and scatter.

Formula numbers are those of docs/mathematics.md. ``shape`` and ``branches`` are those of ``arguments.py``. Images come
with the margin of formula 3 (``packing.py``): every cell has its four pixels, and no load of a corner needs a case.
"""

import triton
import triton.language as tl

# Counts are not compiled into the kernels. Of the sizes in tuples Triton compiles in whether each is 1, a multiple of
# 16, or neither, whatever is said here: a new image size compiles anew only where that changes.
kernel = triton.jit(
    do_not_specialize=(
        *("scale", "size", "tiles", "tap_blocks", "channel_blocks", "blocks"),
        *("parts", "channel_parts", "part_channels", "part_taps", "chunk"),
    )
)


@triton.jit
def of_branch(values, branch):
    """``values[branch]``, elementwise, for a tuple with one entry a branch."""
    chosen = tl.where(branch == 0, values[0], values[len(values) - 1])
    for d in tl.static_range(1, len(values) - 1):
        chosen = tl.where(branch == d, values[d], chosen)
    return chosen


@triton.jit
def origins_of_pixels(pixel, shape):
    """The part of the positions (2) that the tap does not change: y and x, whole numbers in float32."""
    return (
        (pixel // shape.out_width * shape.stride_h).to(tl.float32),
        (pixel % shape.out_width * shape.stride_w).to(tl.float32),
    )


@triton.jit
def origins_of_taps(tap, shape, branches):
    """The part of the positions (2) that the pixel does not change, for taps counted through all branches."""
    branch = tap // shape.taps
    number = tap % shape.taps
    row = number // shape.kernel_w
    column = number % shape.kernel_w
    return (
        (row * of_branch(branches.dilations_h, branch) - of_branch(branches.paddings_h, branch)).to(tl.float32),
        (column * of_branch(branches.dilations_w, branch) - of_branch(branches.paddings_w, branch)).to(tl.float32),
    )


@triton.jit
def planes_of_taps(tensors, strides, sample, group, tap, shape, PLANES: tl.constexpr):
    """Where the first of a tap's PLANES planes starts, in tensors [N, G*K*PLANES, Ho, Wo], one a branch."""
    branch = tap // shape.taps
    number = tl.cast(group, tl.int64) * shape.taps + tap % shape.taps
    return of_branch(tensors, branch) + sample * of_branch(strides, branch) + number * shape.out_area * PLANES


@triton.jit
def cell_of(origin, offset, size):
    """First pixel of the cell, and the fraction within it, along one axis (formulas 2 and 3).

    ``origin`` is a whole number, so that the position is rounded once; the larger of NaN and -2 is -2.
    """
    position = tl.minimum(tl.maximum(origin + offset.to(tl.float32), -2.0), tl.cast(size, tl.float32))
    first = tl.floor(position)
    return first.to(tl.int32), position - first


@triton.jit
def value_of(v00, v01, v10, v11, ly, lx):
    """Formula 4."""
    left = v00 + ly * (v10 - v00)
    right = v01 + ly * (v11 - v01)
    return left + lx * (right - left)


@triton.jit
def slopes_of(v00, v01, v10, v11, ly, lx):
    """Derivatives by y and x: formulas 5 and 6."""
    twist = (v11 - v01) - (v10 - v00)
    return (v10 - v00) + lx * twist, (v01 - v00) + ly * twist


@triton.jit
def add_to_pixels(pixel, number, multiple, inside, FIXED: tl.constexpr):
    """Adds to grad_input: in float32, or in integers, multiplied first, whose sum knows no order."""
    if FIXED:
        tl.atomic_add(pixel, (number * multiple).to(tl.int64), mask=inside, sem="relaxed")
    else:
        tl.atomic_add(pixel, number, mask=inside, sem="relaxed")


@triton.jit
def scatter(image, pitch, step, top, left, ly, lx, gamma, multiple, valid, shape, FIXED: tl.constexpr):
    """Sends gamma to the four pixels of its cell (formula 7), if one of them is inside.

    ``image`` points at pixel (0, 0) and has a margin of one pixel; rows are ``pitch`` and pixels ``step`` elements
    apart.
    """
    right = gamma * lx
    left_share = gamma - right
    g11 = right * ly
    g10 = left_share * ly
    pixel = image + (top * pitch + left * step)
    inside = valid & (top >= -1) & (top < shape.height) & (left >= -1) & (left < shape.width)
    add_to_pixels(pixel, left_share - g10, multiple, inside, FIXED)
    add_to_pixels(pixel + step, right - g11, multiple, inside, FIXED)
    add_to_pixels(pixel + pitch, g10, multiple, inside, FIXED)
    add_to_pixels(pixel + pitch + step, g11, multiple, inside, FIXED)


@triton.jit
def forward_program(tiles, blocks, parts, shape, SPLIT: tl.constexpr):
    """What a program of a forward computes: its tile, block and group, its parts, and its sample."""
    program = tl.program_id(0)
    tile = program % tiles
    program = program // tiles
    block = program % blocks
    program = program // blocks
    groups = shape.channels // shape.group_channels
    group = program % groups
    program = program // groups
    first_part = 0
    last_part = parts
    if SPLIT:
        first_part = program % parts
        last_part = first_part + 1
        program = program // parts
    sample = program.to(tl.int64)
    return tile, block, group, first_part, last_part, sample


@triton.jit
def finished(total, bias, out_channel, valid, scale):
    """The end of formula 8: sigma and the bias."""
    result = total * scale
    if bias is not None:
        result += tl.load(bias + out_channel, mask=valid, other=0.0).to(tl.float32)
    return result


@kernel
def add_parts(
    partials,  # [parts, N, C_out, Ho, Wo] in float32
    bias,  # [C_out] or None
    output,  # [N, C_out, Ho, Wo]
    size,  # of the output
    parts,
    shape,
    scale,
    BLOCK: tl.constexpr,
):
    """The sum of all parts, in order, as a program that has them all computes it."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = place < size
    total = tl.zeros((BLOCK,), tl.float32)
    for part in range(parts):
        total += tl.load(partials + part * tl.cast(size, tl.int64) + place, mask=valid, other=0.0)
    result = finished(total, bias, place // shape.out_area % shape.out_channels, valid, scale)
    tl.store(output + place, result.to(output.dtype.element_ty), mask=valid)
