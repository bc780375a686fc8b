"""Launch settings: pure functions of shape, dtype and device, checked without a GPU."""

from __future__ import annotations

import pytest
import torch
from problems import CASES, Case

from deformwarp import rules
from deformwarp.triton.arguments import Shape, branches_of, shape_of
from deformwarp.triton.plan import LARGEST_BLOCK, Device, Plan, cdiv, chunk_tiles, is_split, plan
from deformwarp.triton.tuning import candidates

H200 = Device("cuda", "90", 132)
MI300 = Device("hip", "gfx942", 304)
POSEWARPER = Case("posewarper", 17, 17, (96, 72), 1, (3, 3), tuple((d, d) for d in (3, 6, 12, 18, 24)))
SHARED = Case("shared", 64, 64, (56, 56), 1, (3, 3), offset_groups=1)
WIDE = Case("wide", 4, 300, (8, 8), 1, (1, 1))
HALVES = (torch.float16, torch.bfloat16)
devices = pytest.mark.parametrize("device", [H200, MI300], ids=["H200", "MI300"])


def rules_problem(case: Case, batch: int = 1) -> rules.Problem:
    """Sizes only."""

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device="meta")

    groups = case.offset_groups or case.channels
    branches, taps = len(case.dilations), case.kernel[0] * case.kernel[1]
    padding, dilation = ([n for pair in pairs for n in pair] for pairs in (case.paddings, case.dilations))
    return rules.Problem(
        empty(batch, case.channels, *case.size),
        [empty(batch, 2 * groups * taps, *case.out_size)] * branches,
        [],
        empty(branches, case.out_channels, case.channels // case.groups, *case.kernel),
        None,
        case.stride,
        padding,
        dilation,
    )


def settings_of(case: Case, dtype: torch.dtype = torch.float32, device: Device = H200, batch: int = 1) -> Plan:
    return plan(shape_of(rules_problem(case, batch)), len(case.dilations), dtype, device)


def test_sizes_are_those_of_the_problem() -> None:
    case = Case("sizes", 12, 6, (9, 11), 2, (3, 2), ((2, 3),), ((1, 2),), (2, 1), groups=3, offset_groups=2)
    shape = shape_of(rules_problem(case, batch=2))
    height, width = case.out_size
    assert shape == Shape(2, 12, 9, 11, 6, width, height * width, 6, 2, 2, 1, 4, 2, 6, 2)
    assert (shape.groups, shape.offset_groups) == (3, 2)


def test_branches_keep_heights_and_widths_apart() -> None:
    case = Case("branches", 1, 1, (9, 9), 1, (1, 3), ((1, 2), (3, 4)))
    branches = branches_of(rules_problem(case), [5, 6], [])
    assert (branches.dilations_h, branches.dilations_w) == ((1, 3), (2, 4))
    assert (branches.paddings_h, branches.paddings_w) == ((0, 0), (2, 4))
    assert (branches.offset_strides, branches.mask_strides) == ((5, 6), ())


@pytest.mark.parametrize(
    ("case", "planar"),
    [(POSEWARPER, True), (SHARED, False), (WIDE, False)],
    ids=["one group per channel", "shared offsets", "more outputs than accumulators"],
)
def test_the_kernels_are_chosen_by_offset_groups_and_output_channels(case: Case, planar: bool) -> None:
    assert settings_of(case).planar is planar


def test_only_float32_on_nvidia_is_cut_into_tf32() -> None:
    assert settings_of(POSEWARPER, torch.float32, H200).tf32
    assert not settings_of(POSEWARPER, torch.float32, MI300).tf32
    assert not any(settings_of(POSEWARPER, dtype, H200).tf32 for dtype in HALVES)


def test_a_strip_is_as_long_as_a_warp() -> None:
    assert settings_of(POSEWARPER, device=H200).lanes == 32
    assert settings_of(POSEWARPER, device=MI300).lanes == 64


@devices
@pytest.mark.parametrize("case", [*CASES, POSEWARPER, SHARED, WIDE], ids=str)
def test_every_tap_channel_and_output_belongs_to_a_part(case: Case, device: Device) -> None:
    shape, settings = shape_of(rules_problem(case)), settings_of(case, device=device)
    all_taps = len(case.dilations) * shape.taps
    taps = settings.taps if settings.planar else settings.part_taps
    tap_parts = cdiv(all_taps, taps)
    segments = 1 if settings.planar else shape.group_channels // shape.segment * settings.channel_parts
    assert settings.parts == tap_parts * segments
    assert settings.part_channels * settings.channel_parts >= shape.segment
    assert settings.part_channels % settings.channels == 0
    assert settings.out * settings.blocks >= shape.group_out_channels
    assert shape.segment % settings.vector == 0


@devices
@pytest.mark.parametrize("case", [*CASES, POSEWARPER, SHARED, WIDE], ids=str)
def test_tiles_are_what_triton_can_have(case: Case, device: Device) -> None:
    settings = settings_of(case, device=device)
    for tile in (settings.forward, settings.backward, *candidates(settings)):
        assert tile.pixels & (tile.pixels - 1) == 0
        assert tile.pixels >= 16
        assert not settings.planar or tile.pixels % settings.lanes == 0
    assert 16 <= settings.out <= LARGEST_BLOCK
    assert min(settings.taps, settings.channels) >= 16


@devices
def test_the_tiles_of_a_plan_are_among_the_candidates_of_tune(device: Device) -> None:
    for case in (*CASES, POSEWARPER, SHARED, WIDE):
        settings = settings_of(case, device=device)
        assert {settings.forward, settings.backward} <= set(candidates(settings))


@pytest.mark.parametrize("case", [POSEWARPER, SHARED], ids=str)
def test_batch_and_multiprocessors_do_not_change_the_order_of_an_outputs_sum(case: Case) -> None:
    small = Device("cuda", "90", 8)
    assert settings_of(case, batch=80) == settings_of(case) == settings_of(case, device=small)


def test_parts_get_programs_of_their_own_where_the_gpu_would_be_idle_otherwise() -> None:
    alone, many = (shape_of(rules_problem(POSEWARPER, batch)) for batch in (1, 16))
    settings = settings_of(POSEWARPER)
    assert is_split(alone, settings, H200)
    assert not is_split(many, settings, H200)
    assert not is_split(alone, settings, Device("cuda", "90", 8))


def test_a_sum_of_one_part_is_not_split() -> None:
    case = Case("one tap", 17, 17, (96, 72), 1, (1, 1))
    assert not is_split(shape_of(rules_problem(case)), settings_of(case), H200)


@pytest.mark.parametrize("tiles", [1, 7, 108, 1728])
@pytest.mark.parametrize("programs", [1, 51, 10_000])
def test_chunks_cover_all_tiles_and_none_is_empty(tiles: int, programs: int) -> None:
    chunk = chunk_tiles(tiles, programs, H200)
    chunks = cdiv(tiles, chunk)
    assert (chunks - 1) * chunk < tiles <= chunks * chunk
    assert chunks == 1 or chunks * programs <= 8 * H200.multiprocessors
