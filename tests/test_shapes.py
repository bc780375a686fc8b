"""Whatever the shape: hypothesis looks for one that the kernels get wrong."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from problems import Case, assert_within, expectations, forward_and_gradients, output_size, problem_of


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A valid shape: every branch is padded so that all have the output size of the first."""
    groups = draw(st.integers(1, 3))
    offset_groups = draw(st.integers(1, 3))
    channels = draw(st.integers(1, 4)) * groups * offset_groups
    planar = draw(st.booleans())
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    size = draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    count = draw(st.integers(1, 3))
    # Only dilations whose window is longer by an even number than the first's can be padded to its size.
    dilations = [tuple(1 + 2 * draw(st.integers(0, 2)) for _ in kernel) for _ in range(count)]
    extra = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    padding = tuple(
        tuple((d - 1) * (k - 1) // 2 + e for d, k, e in zip(dil, kernel, extra, strict=True)) for dil in dilations
    )
    for axis in (0, 1):
        assume(output_size(size[axis], kernel[axis], stride[axis], padding[0][axis], dilations[0][axis]) > 0)
    case = Case(
        "",
        channels,
        groups * draw(st.integers(1, 5)),
        size,
        draw(st.integers(0, 3)),
        kernel,
        tuple(dilations),  # type: ignore[arg-type]
        padding,  # type: ignore[arg-type]
        stride,
        groups,
        None if planar else offset_groups,
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from([1.0, 0.2])),
        draw(st.sampled_from([0.5, 3.0])),
    )
    return Case(**{**vars(case), "name": repr(case)})


@pytest.mark.slow
@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_any_shape(case: Case, dtype: torch.dtype) -> None:
    results = forward_and_gradients(problem_of(case, dtype))
    if case.batch > 0:
        assert_within(results, expectations(case, dtype), dtype)
    else:
        assert results["output"].numel() == 0
        assert not results["weight"].any()
