"""What only a GPU shows: its streams, its graphs, its memory, and a second one beside it.

The conformance suite runs on the GPU too (``pytest -m gpu``). Here torch's default device stays the CPU, as users have
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from problems import (
    BY_NAME,
    Case,
    Problem,
    assert_near,
    assert_same_bits,
    assert_within,
    expectations,
    forward_and_gradients,
    problem_of,
)
from torch import Tensor

import deformwarp
from benchmarks.device import allocated
from deformwarp import native, rules
from deformwarp.backends import BACKENDS
from deformwarp.native import CudaDevice, cuda_plan

POSEWARPER = Case("posewarper", 17, 17, (96, 72), 2, dilations=((3, 3), (6, 6), (12, 12), (18, 18), (24, 24)), spread=3)
SHARED = BY_NAME["shared_cut_by_weight_groups"]
ON_GPU = [name for name in ("cuda", "triton") if name in BACKENDS]
SOME_MILLISECONDS = 20_000_000  # clock cycles

both = pytest.mark.parametrize("case", [POSEWARPER, SHARED], ids=["planar", "shared"])
pytestmark = pytest.mark.gpu


def _on(name: str) -> Iterator[str]:
    reason = "torch sees no GPU" if not torch.cuda.is_available() else BACKENDS[name].why_not_here()
    if reason is not None:
        pytest.skip(reason)
    with deformwarp.use_backend(name):
        yield name


@pytest.fixture(params=ON_GPU)
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from _on(request.param)


@pytest.fixture
def cuda() -> Iterator[str]:
    yield from _on("cuda")


@pytest.fixture(params=["reference", *ON_GPU])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from _on(request.param)


def on_gpu(case: Case, dtype: torch.dtype = torch.float32, device: str = "cuda") -> Problem:
    return problem_of(case, dtype).map(lambda tensor: tensor.detach().to(device))


@both
@pytest.mark.usefixtures("backend")
def test_results_are_on_the_tensors_device_without_a_default_device(case: Case) -> None:
    results = forward_and_gradients(on_gpu(case))
    assert {tensor.device.type for tensor in results.values()} == {"cuda"}
    assert_within(results, expectations(case, torch.float32), torch.float32)


@both
@pytest.mark.usefixtures("kernels")
def test_kernels_run_on_the_current_stream(case: Case) -> None:
    problem = on_gpu(case)
    expected = forward_and_gradients(problem)
    late = problem.map(torch.zeros_like)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(SOME_MILLISECONDS)
        # On any other stream the kernels would find zeros.
        late.input.copy_(problem.input)
        late.weight.copy_(problem.weight)
        late.grad_output.copy_(problem.grad_output)
        for to, offset in zip(late.offsets, problem.offsets, strict=True):
            to.copy_(offset)
        for to, mask in zip(late.masks or [], problem.masks or [], strict=True):
            to.copy_(mask)
        if late.bias is not None and problem.bias is not None:
            late.bias.copy_(problem.bias)
        results = forward_and_gradients(late)
    torch.cuda.synchronize()
    assert_near(results, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@both
@pytest.mark.usefixtures("kernels")
def test_tensors_on_the_second_gpu_are_computed_there(case: Case) -> None:
    with torch.cuda.device(0):
        results = forward_and_gradients(on_gpu(case, device="cuda:1"))
        assert torch.cuda.current_device() == 0
    assert {str(tensor.device) for tensor in results.values()} == {"cuda:1"}
    assert_within(results, expectations(case, torch.float32), torch.float32)


@both
@pytest.mark.usefixtures("kernels")
def test_a_cuda_graph_replays_forward_and_backward_on_new_values(case: Case) -> None:
    static = on_gpu(case)
    with torch.cuda.stream(torch.cuda.Stream()):  # captures want everything loaded and compiled
        forward_and_gradients(static)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = forward_and_gradients(static)
    for factor in (1.0, -0.5, 2.0):
        static.input.mul_(factor)
        static.offsets[0].mul_(abs(factor))
        expected = forward_and_gradients(static.map(torch.clone))
        for result in captured.values():
            result.fill_(torch.nan)
        graph.replay()
        assert_near(captured, expected)


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Fresh memory is NaN too."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.usefixtures("kernels")
def test_deterministic_algorithms_give_the_same_bits(case: Case, dtype: torch.dtype) -> None:
    problem = on_gpu(replace(case, batch=3), dtype)
    with deterministic_algorithms():
        first = forward_and_gradients(problem)
        for _ in range(5):
            assert_same_bits(forward_and_gradients(problem), first)
    assert_within(first, expectations(replace(case, batch=3), dtype), dtype)


def _device() -> CudaDevice:
    found = torch.cuda.get_device_properties("cuda")
    return CudaDevice(
        10 * found.major + found.minor,
        found.multi_processor_count,
        found.shared_memory_per_block_optin,
        found.shared_memory_per_multiprocessor,
        (1 if found.major >= 8 else 0) << 10,
        found.max_threads_per_multi_processor,
    )


def _plan(problem: Problem, **options: bool) -> native.CudaPlan:
    case = problem.case
    padding, dilation = ([n for pair in pairs for n in pair] for pairs in (case.paddings, case.dilations))
    plain = rules.Problem(
        problem.input, problem.offsets, [], problem.weight, None, list(case.stride), padding, dilation
    )
    return cuda_plan(plain, _device(), **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.usefixtures("cuda")
def test_a_forward_allocates_its_result_and_the_plans_workspace(batch: int, dtype: torch.dtype) -> None:
    problem = on_gpu(replace(POSEWARPER, batch=batch), dtype)
    assert allocated(problem.warp)[0] == problem.grad_output.nbytes + _plan(problem).workspace_bytes


@pytest.mark.parametrize("wanted", [("input", "weight"), ("weight",)], ids=["all", "input_frozen"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.usefixtures("cuda")
def test_a_backward_allocates_its_gradients_and_the_plans_workspace(batch: int, wanted: tuple[str, ...]) -> None:
    problem = on_gpu(replace(POSEWARPER, batch=batch))
    leaves = {
        name: leaf.requires_grad_()
        for name, leaf in problem.leaves().items()
        if name in wanted or name.startswith("offsets")
    }
    output = problem.warp()
    plan = _plan(problem, backward=True, input="input" in wanted)
    peak, _ = allocated(lambda: torch.autograd.grad(output, list(leaves.values()), problem.grad_output))
    assert peak == sum(leaf.nbytes for leaf in leaves.values()) + plan.workspace_bytes


@pytest.mark.usefixtures("kernels")
def test_offsets_of_more_elements_than_32_bits_count() -> None:
    case = replace(POSEWARPER, name="endless", dilations=((3, 3),), batch=1100)
    free, _ = torch.cuda.mem_get_info()
    if free < 24 << 30:
        pytest.skip(f"needs 24 GiB of free GPU memory, and there are {free / 2**30:.0f}")

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float16, device="cuda")

    problem = Problem(
        case,
        normal(1100, 17, 96, 72),
        [normal(1100, 306, 96, 72)],
        None,
        normal(1, 17, 17, 3, 3),
        None,
        normal(1100, 17, 96, 72),
    )
    assert problem.offsets[0].numel() > 2**31
    together, alone = forward_and_gradients(problem), forward_and_gradients(problem.samples(1099, 1100))
    for name in ("output", "offsets[0]"):
        assert_near({name: together[name][-1:]}, {name: alone[name]})
