"""Images in the forms that kernels read: with the zero margin of formula 3, and what one cell needs side by side."""

import triton.language as tl

from deformwarp.triton.sampling import kernel


@kernel
def pack_pairs(
    input,  # [N * C, H, W]
    pairs,  # [N * C, H + 3, W + 4], integers of twice the input's width
    shape,  # arguments.Shape
    tiles,  # of a plane of pairs
    BLOCK: tl.constexpr,
):
    """Every pixel, from (-2, -2) on, in one word with the pixel below it: a cell is two neighbouring words."""
    plane = (tl.program_id(0) // tiles).to(tl.int64)
    place = (tl.program_id(0) % tiles) * BLOCK + tl.arange(0, BLOCK)
    row = place // (shape.width + 4) - 2
    column = place % (shape.width + 4) - 2
    pixel = input + plane * shape.height * shape.width + (row * shape.width + column)
    in_columns = (column >= 0) & (column < shape.width)
    here = tl.load(pixel, mask=in_columns & (row >= 0) & (row < shape.height), other=0.0)
    below = tl.load(pixel + shape.width, mask=in_columns & (row >= -1) & (row < shape.height - 1), other=0.0)
    if input.dtype.element_ty == tl.float32:
        low = here.to(tl.int32, bitcast=True).to(tl.int64) & 0xFFFFFFFF
        pair = (below.to(tl.int32, bitcast=True).to(tl.int64) << 32) | low
    else:
        low = here.to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
        pair = (below.to(tl.int16, bitcast=True).to(tl.int32) << 16) | low
    size = (shape.height + 3) * (shape.width + 4)
    tl.store(pairs + plane * size + place, pair, mask=place < size)


@kernel
def pack_channels_last(
    input,  # [N, C, H, W]
    image,  # [N, H + 4, W + 4, C]
    shape,  # arguments.Shape
    tiles,  # of a plane of the image
    channel_blocks,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Channels last, from pixel (-2, -2) on: wherever a cell lies, its pixels are runs of memory."""
    tile = tl.program_id(0) % tiles
    rest = tl.program_id(0) // tiles
    channel = (rest % channel_blocks) * CHANNELS + tl.arange(0, CHANNELS)
    sample = (rest // channel_blocks).to(tl.int64)
    place = tile * PIXELS + tl.arange(0, PIXELS)
    row = place // (shape.width + 4) - 2
    column = place % (shape.width + 4) - 2
    inside = (row >= 0) & (row < shape.height) & (column >= 0) & (column < shape.width)
    in_channels = channel < shape.channels
    plane = (sample * shape.channels + channel) * shape.height * shape.width
    value = tl.load(
        input + plane[:, None] + (row * shape.width + column)[None, :],
        mask=in_channels[:, None] & inside[None, :],
        other=0.0,
    )
    size = (shape.height + 4) * (shape.width + 4)
    pixel = (sample * size + place) * shape.channels
    tl.store(image + pixel[None, :] + channel[:, None], value, mask=in_channels[:, None] & (place < size)[None, :])
