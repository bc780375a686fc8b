"""Launch settings, as pure functions of shape, dtype and device. Knows no Triton, and needs no GPU.

Settings that change the order of a sum (all but ``Tile``) depend on one sample's shape and the kind of device alone: a
sample has the same output in any batch, on any number of multiprocessors, tuned or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from deformwarp.triton.arguments import Shape

LARGEST_BLOCK = 128  # output channels of one program: the accumulator must stay in registers


@dataclass(frozen=True)
class Device:
    """What of a GPU matters here."""

    vendor: str  # "cuda" or "hip"
    architecture: str  # "90" or "gfx942"
    multiprocessors: int
    name: str = ""  # as its maker calls it


@dataclass(frozen=True)
class Tile:
    """What may change without changing a bit of the results; ``deformwarp.tune`` chooses it."""

    pixels: int
    warps: int


@dataclass(frozen=True)
class Plan:
    """How one problem is cut into programs."""

    planar: bool  # kernels of planar.py; else of shared.py
    tf32: bool  # float32 products are three of TF32
    lanes: int  # of a warp
    taps: int  # of a planar tile
    channels: int  # of a shared tile
    vector: int  # divides all runs of channels of a shared tile
    out: int  # output channels of a tile
    blocks: int  # of a group's output channels
    parts: int  # sums, each in an order of its own, whose sum an output is
    channel_parts: int  # of a segment
    part_channels: int
    part_taps: int
    forward: Tile
    backward: Tile


def cdiv(number: int, divisor: int) -> int:
    """Rounded up."""
    return -(-number // divisor)


def power_of_two(number: int, least: int, most: int) -> int:
    """The next power of two, within limits.

    >>> power_of_two(17, 16, 128)
    32
    """
    return min(max(1 << (number - 1).bit_length(), least), most)


def plan(shape: Shape, branches: int, dtype: torch.dtype, device: Device) -> Plan:
    """Settings for a problem.

    >>> warp = Shape(16, 17, 96, 72, 17, 72, 6912, 9, 3, 1, 1, 17, 17, 1, 1)
    >>> settings = plan(warp, 5, torch.float16, Device("cuda", "90", 132))
    >>> settings.planar, settings.taps, settings.parts, settings.forward
    (True, 16, 3, Tile(pixels=64, warps=4))
    """
    planar = shape.offset_group_channels == 1 and shape.group_out_channels <= LARGEST_BLOCK
    all_taps = branches * shape.taps
    lanes = 64 if device.vendor == "hip" else 32
    # NVIDIA's matrix units know float32 only as TF32; AMD's know it.
    tf32 = dtype == torch.float32 and device.vendor == "cuda"
    warps = 256 // lanes  # where half as many need nearly all registers, or more
    out = power_of_two(shape.group_out_channels, 16, LARGEST_BLOCK)
    taps, channels = 16, power_of_two(shape.segment, 16, 32)
    # A third of the taps and a third of the channels: parts enough to fill a GPU with a large convolution of one small
    # image, and still long enough to be worth a start.
    part_taps = taps if planar else cdiv(all_taps, 3)
    part_channels = cdiv(cdiv(shape.segment, channels), 3) * channels
    channel_parts = cdiv(shape.segment, part_channels)
    segments = shape.group_channels // shape.segment
    tap_parts = cdiv(all_taps, part_taps)
    return Plan(
        planar=planar,
        tf32=tf32,
        lanes=lanes,
        taps=taps,
        channels=channels,
        vector=min(shape.segment & -shape.segment, 16),
        out=out,
        blocks=cdiv(shape.group_out_channels, out),
        parts=tap_parts if planar else tap_parts * segments * channel_parts,
        channel_parts=channel_parts,
        part_channels=part_channels,
        part_taps=part_taps,
        forward=_planar_tile(shape, lanes, out, 4) if planar else _shared_tile(shape, warps),
        backward=_planar_tile(shape, lanes, out, warps) if planar else _shared_tile(shape, warps),
    )


def _planar_tile(shape: Shape, lanes: int, out: int, warps: int) -> Tile:
    # Accumulators of 128 output channels leave registers for one strip.
    return Tile(lanes if out > 32 or shape.out_area <= lanes else 2 * lanes, warps)


def _shared_tile(shape: Shape, warps: int) -> Tile:
    return Tile(power_of_two(cdiv(shape.out_area, 4), 16, 64), warps)


def is_split(shape: Shape, settings: Plan, device: Device) -> bool:
    """Whether parts are programs of their own, added up afterwards: where there are too few programs otherwise."""
    whole = shape.samples * shape.groups * settings.blocks * cdiv(shape.out_area, settings.forward.pixels)
    return settings.parts > 1 and whole < 4 * device.multiprocessors


def chunk_tiles(tiles: int, programs: int, device: Device) -> int:
    """How many of ``tiles`` one program walks over, where ``programs`` share each tile.

    Four for each multiprocessor in all: more would only be more partial gradients of the weight to add up.

    >>> chunk_tiles(1728, 51, Device("cuda", "90", 132))
    158
    """
    chunks = max(1, min(tiles, cdiv(4 * device.multiprocessors, programs)))
    return cdiv(tiles, chunks)
