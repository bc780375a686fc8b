"""Launch plans of the CUDA kernels: pure functions of sizes, dtype and device, so no GPU is needed."""

from __future__ import annotations

import re
from dataclasses import astuple, replace

import pytest
import torch
from emulator import DEVICES
from problems import CASES, DTYPES, Case

from deformwarp import native, rules
from deformwarp.native import CudaDevice, CudaPlan, cuda_plan

POSEWARPER = Case("posewarper-384x288", 17, 17, (96, 72), 1, dilations=((3, 3), (6, 6), (12, 12), (18, 18), (24, 24)))
RESNET = Case("resnet-dcn-512-7", 512, 512, (7, 7), 1, offset_groups=1)
devices = pytest.mark.parametrize(
    "device", [CudaDevice(*astuple(device)) for device in DEVICES.values()], ids=lambda d: f"sm_{d.architecture}"
)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def problem_of_shape(case: Case, dtype: torch.dtype = torch.float32) -> rules.Problem:
    groups = case.channels if case.offset_groups is None else case.offset_groups
    taps = case.kernel[0] * case.kernel[1]

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    return rules.Problem(
        empty(case.batch, case.channels, *case.size),
        [empty(case.batch, 2 * groups * taps, *case.out_size) for _ in case.dilations],
        [empty(case.batch, groups * taps, *case.out_size) for _ in case.dilations] if case.masked else [],
        empty(len(case.dilations), case.out_channels, case.channels // case.groups, *case.kernel),
        None,
        case.stride,
        [n for pair in case.paddings for n in pair],
        [n for pair in case.dilations for n in pair],
    )


def plans_of(case: Case, dtype: torch.dtype, device: CudaDevice) -> list[CudaPlan]:
    problem = problem_of_shape(case, dtype)
    return [cuda_plan(problem, device), cuda_plan(problem, device, backward=True)]


@devices
@dtypes
@pytest.mark.parametrize("case", [*CASES, POSEWARPER, RESNET], ids=str)
def test_every_launch_fits_the_device(case: Case, dtype: torch.dtype, device: CudaDevice) -> None:
    for plan in plans_of(case, dtype, device):
        assert plan.launches
        for launch in plan.launches:
            assert 1 <= launch.blocks < 2**31, launch
            assert 32 <= launch.threads <= 1024, launch
            assert launch.threads % 32 == 0, launch
            assert 0 <= launch.shared_bytes <= device.shared_bytes_per_block, launch


@devices
@pytest.mark.parametrize("case", [POSEWARPER, RESNET, replace(RESNET, offset_groups=4)], ids=str)
def test_one_sample_fills_the_chip(case: Case, device: CudaDevice) -> None:
    for plan in plans_of(case, torch.float32, device):
        # The planar backward has whole channels in its blocks: 119 of 17 for 132 multiprocessors.
        share = 0.85 if plan.path == "planar" else 1
        assert max(launch.blocks for launch in plan.launches) >= share * device.multiprocessors


@devices
@dtypes
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_forward_of_a_batch_needs_no_workspace(case: Case, dtype: torch.dtype, device: CudaDevice) -> None:
    assert cuda_plan(problem_of_shape(replace(case, batch=2), dtype), device).workspace_bytes == 0


@dtypes
def test_the_workspace_of_the_inputs_gradient_is_integers_of_64_bits(dtype: torch.dtype) -> None:
    case = replace(POSEWARPER, batch=4)
    plan = cuda_plan(problem_of_shape(case, dtype), backward=True, sampling=False, weight=False)
    integers = 4 * 17 * 96 * 72 * (2 if dtype == torch.float64 else 1)
    assert 0 <= plan.workspace_bytes - 8 * integers < 64 << 10  # and the bounds


def test_gradients_that_are_not_wanted_cost_nothing() -> None:
    problem = problem_of_shape(replace(POSEWARPER, batch=16))
    plan = cuda_plan(problem, backward=True, input=False, weight=False)
    assert [launch.kernel for launch in plan.launches] == ["planar_backward"]
    assert plan.workspace_bytes == 0


def test_many_branches_take_several_launches() -> None:
    case = Case("many_branches", 2, 2, dilations=((1, 1),) * 70)
    forward = cuda_plan(problem_of_shape(case)).launches
    assert [launch.kernel for launch in forward] == ["general_forward"] * 3 + ["general_add_up_output"]


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["float32", "float16", "bfloat16"]
)
@pytest.mark.parametrize("batch", [1, 16])
def test_posewarpers_shapes_take_the_planar_path(batch: int, dtype: torch.dtype) -> None:
    for plan in plans_of(replace(POSEWARPER, batch=batch), dtype, CudaDevice()):
        assert plan.path == "planar"
        assert plan.why_not_planar == ""


WHY_NOT_PLANAR = {
    "channels share their offsets": replace(POSEWARPER, offset_groups=1),
    "the weight has groups": replace(POSEWARPER, groups=17),
    "the stride is not 1": replace(POSEWARPER, stride=(2, 1), dilations=((1, 1),)),
    "there are more than 32 output channels": replace(POSEWARPER, out_channels=33),
    "there are more than 8 dilations": replace(POSEWARPER, dilations=((1, 1),) * 9),
    "there are more than 192 taps": replace(POSEWARPER, kernel=(7, 7), dilations=((1, 1),) * 4),
    "the output's width is no multiple of 4": replace(POSEWARPER, size=(96, 70)),
    "a plane of the input is no multiple of 16 bytes": replace(
        POSEWARPER, size=(5, 5), kernel=(1, 2), dilations=((1, 1),), padding=((0, 0),)
    ),
    "there are masks": replace(POSEWARPER, masked=True),
    "a plane needs .* bytes of shared memory, and a block has 232448": replace(POSEWARPER, size=(128, 128)),
}


@pytest.mark.parametrize("why_not", WHY_NOT_PLANAR)
def test_the_plan_says_why_the_planar_path_does_not_take_a_problem(why_not: str) -> None:
    for plan in plans_of(WHY_NOT_PLANAR[why_not], torch.float32, CudaDevice()):
        assert plan.path == "general"
        assert re.fullmatch(why_not, plan.why_not_planar)


def test_float16_is_not_planar_where_an_offset_of_500_pixels_does_not_lead_outside() -> None:
    wide = replace(POSEWARPER, size=(4, 512))
    assert [plan.path for plan in plans_of(wide, torch.bfloat16, CudaDevice())] == ["planar"] * 2
    for plan in plans_of(wide, torch.float16, CudaDevice()):
        assert plan.why_not_planar == "the image is too large for float16"


@pytest.mark.parametrize(
    ("dtype", "architecture", "why_not"),
    [
        (torch.float64, 90, "tensor cores do not multiply float64 with these kernels"),
        (torch.float32, 75, "tensor cores before sm_80 have no TF32"),
    ],
    ids=["float64", "sm_75"],
)
def test_the_planar_path_needs_tf32(dtype: torch.dtype, architecture: int, why_not: str) -> None:
    device = CudaDevice(*astuple(DEVICES[architecture]))
    assert [plan.why_not_planar for plan in plans_of(POSEWARPER, dtype, device)] == [why_not] * 2


def test_more_blocks_than_a_launch_has_are_refused() -> None:
    case = Case("endless", 64, 64, (1, 1), 2**31, (1, 1), groups=64)
    with pytest.raises(ValueError, match=r"needs \d+ blocks of CUDA threads, and a launch has at most 2147483647"):
        cuda_plan(problem_of_shape(case))


@pytest.mark.parametrize(
    ("built", "runs", "does_not_run"),
    [
        ("75-real 80-real 90-real", [75, 80, 86, 89, 90], [70, 100, 120]),
        ("120-real 120-virtual", [120, 121, 130], [75, 90, 103, 110]),
        ("80-virtual", [80, 86, 90, 120], [75]),
        ("90", [90, 100], [89]),
        ("", [], [75, 90]),
    ],
)
def test_machine_code_runs_on_its_major_version_and_ptx_on_all_that_is_newer(
    built: str, runs: list[int], does_not_run: list[int]
) -> None:
    assert all(native.cuda_runs_on(architecture, built) for architecture in runs)
    assert not any(native.cuda_runs_on(architecture, built) for architecture in does_not_run)
