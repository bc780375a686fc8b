"""The compiler's own figures of the CUDA kernels, held to the table in benchmarks/results; how they are found."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cuda_figures import library, table
from benchmarks.cuda_figures.banks import OFFSETS, addition_wavefronts, conflicts, load_wavefronts
from benchmarks.cuda_figures.library import Resources, readable
from benchmarks.cuda_figures.loops import Turn, main_loop
from benchmarks.cuda_figures.markdown import blocks_at_once, launches
from benchmarks.cuda_figures.prediction import CHIPS, KINDS, cell_bytes, turn_for
from benchmarks.workloads import GPU_WORKLOADS
from deformwarp import native

LIBRARY = Path(native._C.__file__)
MEASURE_AGAIN = "if that is meant: python -m benchmarks.cuda_figures"
NO_SPILLS_FROM = 90
# Bytes a thread. Blocks of 512 threads have 128 registers for each; one instance wants more.
KNOWN_SPILLS = {("planar_forward<FloatSampler<float>, 3>", 120): 8}

built_here = pytest.mark.skipif(
    not native.CUDA_ARCHITECTURES or library.cuobjdump() is None,
    reason="needs a build with CUDA kernels, and cuobjdump, of CUDA or Triton",
)


@pytest.fixture(scope="module")
def resources() -> list[Resources]:
    return library.resources(LIBRARY)


def same_compiler() -> None:
    nvcc = library.nvcc_version()
    if nvcc is None or nvcc != table.load()[0]:
        pytest.skip(f"the table is of nvcc {table.load()[0]}, and here is {nvcc}")


@built_here
def test_every_kernel_is_there_for_every_architecture(resources: list[Resources]) -> None:
    built = {int(entry.split("-")[0]) for entry in native.CUDA_ARCHITECTURES.split() if not entry.endswith("virtual")}
    kernels = {one.kernel for one in resources}
    assert {(one.kernel, one.architecture) for one in resources} == {(k, a) for k in kernels for a in built}


@built_here
def test_no_kernel_spills_on_new_architectures_but_for_known_bytes(resources: list[Resources]) -> None:
    recent = [one for one in resources if one.architecture >= NO_SPILLS_FROM]
    assert not [one for one in recent if one.stack + one.local > KNOWN_SPILLS.get((one.kernel, one.architecture), 0)]


def worse_resources(found: list[Resources], known: dict[tuple[str, int], list[int]]) -> list[str]:
    """What takes more registers, stack, local or shared memory than the table says."""
    worse = []
    for one in found:
        now = [one.registers, one.stack, one.local, one.shared]
        before = known.get((one.kernel, one.architecture), now)
        if any(new > old for new, old in zip(now, before, strict=True)):
            worse.append(f"{one.kernel} on sm_{one.architecture}: {now}, was {before}")
    return worse


@built_here
def test_no_kernel_takes_more_than_the_table_says(resources: list[Resources]) -> None:
    same_compiler()
    assert not worse_resources(resources, table.load()[1]), MEASURE_AGAIN


@built_here
def test_no_main_loop_is_longer_than_the_table_says(resources: list[Resources]) -> None:
    same_compiler()
    known = table.load()[2]
    loops = table.loops_of(table.turns_of(LIBRARY, resources, 90), 90)
    longer = [loop for loop in loops if loop.per_sample > known.get((loop.kernel, 90), loop.per_sample)]
    assert not longer, MEASURE_AGAIN


def test_a_kernel_that_takes_more_is_found() -> None:
    one = Resources("kernel<float>", "_Z", 90, 64, 0, 0, 1024)
    known = {("kernel<float>", 90): [64, 0, 0, 1024]}
    assert not worse_resources([one], known)
    for number, change in enumerate(("registers", "stack", "local", "shared")):
        less = [64, 0, 0, 1024]
        less[number] -= 1
        assert worse_resources([one], {("kernel<float>", 90): less}), change


NAMES = {
    "_ZN10deformwarp4cuda7general15general_forwardINS0_8BFloat16ELi32EEEvNS1_13ForwardParamsE": (
        "general_forward<BFloat16, 32>"
    ),
    "_ZN10deformwarp4cuda6planar51_GLOBAL__N__e7349b93_18_planar_backward_cu_03bd839b15planar_backwardIfLi3ELb1EEEvNS1_"
    "8BackwardE": "planar_backward<float, 3, true>",
    "memset": "memset",
}


@pytest.mark.parametrize(("mangled", "name"), NAMES.items(), ids=NAMES.values())
def test_kernels_have_readable_names(mangled: str, name: str) -> None:
    assert readable(mangled) == name


# A prologue; a loop of two turns' work with a rare detour that multiplies nothing; an inner loop; an epilogue.
CODE = """
        /*0000*/                   S2R R0, SR_TID.X ;                      /* 0x0 */
        /*0010*/                   LDG.E.NA.64.CONSTANT R2, [R4.64] ;      /* 0x0 */
        /*0020*/              @!P0 BRA 0x60 ;                              /* 0x0 */
        /*0030*/                   IMAD R8, R8, R8, R8 ;                   /* 0x0 */
        /*0040*/                   IMAD R8, R8, R8, R8 ;                   /* 0x0 */
        /*0050*/                   BRA 0x60 ;                              /* 0x0 */
        /*0060*/                   LDS.128 R12, [R0] ;                     /* 0x0 */
        /*0070*/                   STS [R0], R12 ;                         /* 0x0 */
        /*0080*/               @P1 BRA 0x60 ;                              /* 0x0 */
        /*0090*/               @P3 BRA 0xb0 ;                              /* 0x0 */
        /*00a0*/                   STG.E [R4.64], R12 ;                    /* 0x0 */
        /*00b0*/                   HMMA.1688.F32.TF32 R4, R4, R8, R4 ;     /* 0x0 */
        /*00c0*/               @P2 BRA 0x10 ;                              /* 0x0 */
        /*00d0*/                   EXIT ;                                  /* 0x0 */
        /*00e0*/                   NOP ;                                   /* 0x0 */
"""


def test_a_turn_of_the_main_loop_jumps_around_what_does_no_work() -> None:
    turn = main_loop(CODE)
    assert turn is not None
    assert dict(turn.names) == {
        "LDG.E.NA.64.CONSTANT": 1,
        "BRA": 4,
        "LDS.128": 1,
        "STS": 1,
        "STG.E": 1,
        "HMMA.1688.F32.TF32": 1,
    }
    assert turn.instructions == 9
    assert turn.bits("LDS") == 128
    assert turn.bits("LDG", "NA") == 64


def test_a_kernel_without_tensor_cores_has_no_main_loop() -> None:
    assert main_loop(CODE.replace("HMMA", "FFMA")) is None


@pytest.mark.parametrize(
    ("kernel", "dtype", "mode"),
    [
        ("planar_forward<HalfSampler, 3>", "float16", 0),
        ("planar_forward<FloatSampler<BFloat16>, 3>", "bfloat16", 0),
        ("planar_forward<FloatSampler<float>, 3>", "float32", 0),
        ("planar_backward<Half, 3, false>", "float16", 1),
        ("planar_backward<float, 3, true>", "float32", 2),
    ],
)
def test_a_workload_finds_the_main_loop_of_its_instance(kernel: str, dtype: str, mode: int) -> None:
    turn, other = Turn(Counter(LDS=1)), Turn(Counter(LDS=2))
    turns = {kernel.replace("3", "4"): other, "general_forward<float, 3>": other, kernel: turn}
    workload = GPU_WORKLOADS[f"posewarper-384x288-n16-{dtype}"]
    assert turn_for(workload, KINDS[mode], turns) is turn


def test_a_multiprocessor_has_room_for_a_block_of_every_launch() -> None:
    registers = {kernel: found[0] for (kernel, architecture), found in table.load()[1].items() if architecture == 90}
    device = CHIPS[0].device
    for title, launch, kernel in launches(registers, device):
        assert blocks_at_once(registers[kernel], launch, device) >= 1, title


@pytest.mark.parametrize(("width", "size"), [("128", 16), ("64", 8)])
def test_a_cell_is_what_is_loaded_for_every_sample(width: str, size: int) -> None:
    turn = Turn(Counter({"LDS.128": 7}) + Counter({f"LDS.{width}": 17}))
    assert cell_bytes(turn, 16) == size


def test_loads_of_one_bank_wait_for_each_other_and_loads_of_one_word_do_not() -> None:
    lanes = np.arange(32)[None]
    assert load_wavefronts(lanes, 4) == 1
    assert load_wavefronts(2 * lanes, 4) == 2
    assert load_wavefronts(32 * lanes, 4) == 32
    assert load_wavefronts(np.zeros_like(lanes), 4) == 1
    assert load_wavefronts(lanes, 8) == 2
    assert load_wavefronts(lanes, 16) == 4


def test_additions_to_one_word_wait_for_each_other() -> None:
    lanes, all_active = np.arange(32)[None], np.ones((1, 32), bool)
    assert addition_wavefronts(lanes, all_active, 4) == 1
    assert addition_wavefronts(lanes, all_active, 8) == 2
    assert addition_wavefronts(np.zeros_like(lanes), all_active, 4) == 32
    assert addition_wavefronts(np.zeros_like(lanes), lanes < 3, 4) == 3


@pytest.mark.parametrize("offsets", OFFSETS)
def test_conflicts_are_between_none_and_all(offsets: str) -> None:
    found = conflicts(offsets)
    for size, free in ((8, 2), (16, 4)):
        assert free <= found.forward[size] <= 32
        assert free <= found.backward[size] <= 32
    assert 4 < found.additions < found.wide_additions
