"""Every instruction of ptx.h means on the CPU what the PTX manual says, to the bit."""

from __future__ import annotations

import functools
import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from emulator import DEVICES, compiler
from exact import BFLOAT16, FLOAT16, FLOAT32, OPERATIONS, FloatType, fma, saturate
from numpy.typing import NDArray
from toys import Toy, reads, updates, writes

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs g++")

Bits = NDArray[np.uint32]
HALF_TYPES = {"f16": FLOAT16, "bf16": BFLOAT16}
FIRST_OP = {"f16": 0, "bf16": 10}
ALL_HALVES = np.arange(1 << 16, dtype=np.uint32)


@functools.cache
def instructions() -> Toy:
    return Toy("instructions")


def run(op: int, a: Bits, b: Bits | None = None, c: Bits | None = None) -> Bits:
    b, c = (np.zeros_like(a) if x is None else np.ascontiguousarray(x, np.uint32) for x in (b, c))
    d = np.empty_like(a)
    instructions().run([op, a.size], [reads(a), reads(b), reads(c), writes(d)])
    return d


def bits(values: NDArray[np.float32]) -> Bits:
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


def floats(values: Bits) -> NDArray[np.float32]:
    return values.view(np.float32)


def assert_same_floats(actual: Bits, expected: NDArray[np.float32]) -> None:
    """The same bits, and NaN of whatever bits where NaN is expected."""
    nan = np.isnan(expected)
    assert np.array_equal(np.isnan(floats(actual)), nan)
    assert np.array_equal(actual[~nan], bits(expected)[~nan])


def around(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values and their neighbours among float32."""
    return np.concatenate([values, np.nextafter(values, np.float32(np.inf)), np.nextafter(values, np.float32(-np.inf))])


def special_floats() -> NDArray[np.float32]:
    powers = np.ldexp(np.float32(1), np.arange(-149, 128)).astype(np.float32)
    with np.errstate(over="ignore"):
        near = around(np.concatenate([powers, powers * np.float32(1.5), np.arange(20, dtype=np.float32) / 2]))
    random = np.random.default_rng(1).integers(0, 1 << 32, 5000, np.uint32).view(np.float32)
    every = np.concatenate([near, random, np.array([0, np.inf, np.nan], np.float32)])
    return np.concatenate([every, -every])


# ---- Halves


def test_from_f16_is_exact_for_every_pattern() -> None:
    expected = ALL_HALVES.astype(np.uint16).view(np.float16).astype(np.float32)
    assert_same_floats(run(28, ALL_HALVES), expected)


def test_from_bf16_is_exact_for_every_pattern() -> None:
    assert np.array_equal(run(29, ALL_HALVES), ALL_HALVES << 16)


@pytest.mark.parametrize(("op", "kind"), [(26, "f16"), (27, "bf16")])
def test_a_conversion_to_halves_rounds_to_nearest_even(op: int, kind: str) -> None:
    dtype = torch.float16 if kind == "f16" else torch.bfloat16
    with np.errstate(invalid="ignore"):
        halves = np.arange(HALF_TYPES[kind].infinity, dtype=np.int16)
        values = torch.from_numpy(halves).view(dtype).double().numpy()
        ties = ((values[1:] + values[:-1]) / 2).astype(np.float32)
    x = np.concatenate([around(ties), around(values.astype(np.float32)), special_floats()])
    x = np.concatenate([x, -x])
    expected = torch.from_numpy(x).to(dtype).view(torch.int16).numpy().view(np.uint16).astype(np.uint32)
    expected[np.isnan(x)] = HALF_TYPES[kind].nan
    assert np.array_equal(run(op, bits(x)), expected)


@pytest.mark.parametrize(("pack", "alone"), [(20, 26), (21, 27)], ids=["f16", "bf16"])
def test_packing_puts_the_first_into_the_lower_half(pack: int, alone: int) -> None:
    x = bits(special_floats())
    y = np.roll(x, 1)
    assert np.array_equal(run(pack, x, y), run(alone, x) | run(alone, y) << 16)


@pytest.mark.parametrize(("low", "high", "alone"), [(22, 23, 28), (24, 25, 29)], ids=["f16", "bf16"])
def test_unpacking_takes_both_halves(low: int, high: int, alone: int) -> None:
    pairs = np.random.default_rng(0).integers(0, 1 << 32, 5000, np.uint32)
    nan = np.float32(np.nan)
    for op, half in ((low, pairs & 0xFFFF), (high, pairs >> 16)):
        expected = floats(run(alone, half))
        assert_same_floats(run(op, pairs), np.where(np.isnan(expected), nan, expected))


def half_operands(kind: FloatType) -> tuple[Bits, Bits, Bits]:
    """Every combination of special values, and random ones whose sums cancel, tie and overflow."""
    random = np.random.default_rng(2)
    smallest_normal = 1 << kind.mantissa_bits
    positive = [0, 1, smallest_normal - 1, smallest_normal, kind.one - 1, kind.one, kind.one + 1]
    special = [bits for p in [*positive, kind.infinity - 1, kind.infinity, kind.nan] for bits in (p, p | kind.sign)]
    anything = random.integers(0, 1 << 16, (2000, 3))
    cancelling = kind.one + random.integers(-40, 40, (2000, 3)) | [0, 0, kind.sign]
    far_below = kind.one + random.integers(-40, 40, (2000, 3))  # a product that may tie, and a small summand
    far_below[:, 2] = random.integers(1, 1 << 16, 2000)
    every = np.concatenate([list(itertools.product(special, repeat=3)), anything, cancelling, far_below])
    a, b, c = np.ascontiguousarray(every.T, np.uint32)
    return a, b, c


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", HALF_TYPES)
def test_an_operation_on_halves_rounds_once(kind: str, operation: str) -> None:
    half = HALF_TYPES[kind]
    operands = half_operands(half)
    exact = OPERATIONS[operation]
    values = [[half.value(int(x)) for x in operand] for operand in operands]
    expected = np.array([half.bits(exact(*abc)) for abc in zip(*values, strict=True)], np.uint32)
    packed = [x | np.roll(x, 1) << 16 for x in operands]
    actual = run(FIRST_OP[kind] + list(OPERATIONS).index(operation), *packed)
    assert np.array_equal(actual, expected | np.roll(expected, 1) << 16)


def test_a_saturating_packed_sum_is_clamped_and_turns_nan_into_zero() -> None:
    a, b, _ = half_operands(FLOAT16)
    with np.errstate(invalid="ignore", over="ignore"):
        exact = sum(x.astype(np.uint16).view(np.float16).astype(np.float64) for x in (a, b))
        clamped = np.clip(np.nan_to_num(exact, nan=0.0), 0, 1).astype(np.float16)
    expected = (clamped + np.float16(0)).view(np.uint16).astype(np.uint32)  # -0 becomes 0
    actual = run(50, a | np.roll(a, 1) << 16, b | np.roll(b, 1) << 16)
    assert np.array_equal(actual, expected | np.roll(expected, 1) << 16)


def test_a_packed_comparison_is_one_or_zero() -> None:
    a, b, _ = half_operands(FLOAT16)
    values = [x.astype(np.uint16).view(np.float16) for x in (a, b)]
    expected = (values[0] > values[1]).astype(np.float16).view(np.uint16).astype(np.uint32)  # 0 where one is NaN
    actual = run(54, a | np.roll(a, 1) << 16, b | np.roll(b, 1) << 16)
    assert np.array_equal(actual, expected | np.roll(expected, 1) << 16)


def test_one_of_two_elements_is_broadcast() -> None:
    pairs = np.random.default_rng(0).integers(0, 1 << 32, 1000, np.uint32)
    assert np.array_equal(run(51, pairs), (pairs & 0xFFFF) * 0x10001)
    assert np.array_equal(run(52, pairs), (pairs >> 16) * 0x10001)


def test_sums_and_limits_of_16_bits_are_apart() -> None:
    a, b, c = (np.random.default_rng(seed).integers(0, 1 << 32, 5000, np.uint32) for seed in range(3))
    expected = np.minimum(a.view(np.uint16) + b.view(np.uint16), c.view(np.uint16)).view(np.uint32)
    assert np.array_equal(run(53, a, b, c), expected)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_packed_bfloat16_needs_sm_80(operation: str) -> None:
    op = FIRST_OP["bf16"] + list(OPERATIONS).index(operation)
    message = "_bf16x2 needs sm_80, and the device is sm_75"
    with instructions().emulator.device(DEVICES[75]), pytest.raises(RuntimeError, match=message):
        run(op, np.zeros(1, np.uint32))


# ---- Scalars


def test_tf32_rounds_ties_away_from_zero() -> None:
    x = special_floats()
    finite = x[np.isfinite(x)].astype(np.float64)
    mantissa, exponent = np.frexp(finite)
    exponent = np.maximum(exponent, -125)  # denormals keep the lowest exponent
    unit = np.ldexp(1.0, exponent - 11)
    with np.errstate(over="ignore"):
        expected = (np.copysign(np.floor(np.abs(finite) / unit + 0.5), finite) * unit).astype(np.float32)
    assert np.array_equal(run(30, bits(x[np.isfinite(x)])), bits(expected))
    assert_same_floats(run(30, bits(x[~np.isfinite(x)])), x[~np.isfinite(x)])


def test_a_saturating_fma_is_clamped_and_turns_nan_into_zero() -> None:
    random = np.random.default_rng(0)
    operands = [
        bits(np.concatenate([random.permutation(special_floats()), random.uniform(-2, 2, 3000).astype(np.float32)]))
        for _ in range(3)
    ]
    values = ([FLOAT32.value(int(x)) for x in operand] for operand in operands)
    expected = [FLOAT32.bits(saturate(fma(*abc))) for abc in zip(*values, strict=True)]
    assert np.array_equal(run(31, *operands), np.array(expected, np.uint32))


def test_a_sum_rounded_down_is_the_largest_that_is_not_above() -> None:
    random = np.random.default_rng(0)
    near_cancelling = random.uniform(-2, 2, 2000).astype(np.float32)
    a = np.concatenate([special_floats(), near_cancelling, near_cancelling])
    b = np.concatenate([random.permutation(special_floats()), -around(near_cancelling)[:2000], near_cancelling[::-1]])
    actual = floats(run(36, bits(a), bits(b)))
    with np.errstate(all="ignore"):
        nearest = a + b
        finite = np.isfinite(a) & np.isfinite(b)
        assert np.array_equal(actual[~finite], nearest[~finite], equal_nan=True)
        for x, y, d in zip(a[finite].tolist(), b[finite].tolist(), actual[finite], strict=True):
            exact = Fraction(x) + Fraction(y)
            assert d == -np.inf or Fraction(float(d)) <= exact
            above = np.nextafter(d, np.float32(np.inf))
            assert above == np.inf or Fraction(float(above)) > exact
    zeros = run(36, bits(np.array([1, 0, -0.0], np.float32)), bits(np.array([-1, 0, -0.0], np.float32)))
    assert np.signbit(floats(zeros)).tolist() == [True, False, True]


def test_a_saturating_difference_is_clamped_and_turns_nan_into_zero() -> None:
    random = np.random.default_rng(0)
    a, b = (
        np.concatenate([random.permutation(special_floats()), random.uniform(-2, 2, 3000).astype(np.float32)])
        for _ in range(2)
    )
    with np.errstate(all="ignore"):
        expected = np.clip(np.nan_to_num(a - b, nan=0.0), np.float32(0), np.float32(1))
    assert np.array_equal(floats(run(37, bits(a), bits(b))), expected)


def test_the_smaller_of_a_sum_and_a_limit_is_unsigned() -> None:
    a, b, c = (np.random.default_rng(seed).integers(0, 1 << 32, 5000, np.uint32) for seed in range(3))
    assert np.array_equal(run(38, a, b, c), np.minimum(a + b, c))


@pytest.mark.parametrize(("op", "rounding"), [(32, np.floor), (33, np.rint)], ids=["floor", "round"])
def test_a_conversion_to_int_stays_within_32_bits(op: int, rounding: np.ufunc) -> None:
    x = special_floats()
    whole = rounding(np.where(np.isnan(x), 0, x).astype(np.float64))
    expected = np.clip(whole, -(2**31), 2**31 - 1).astype(np.int32)
    assert np.array_equal(run(op, bits(x)).view(np.int32), expected)


def test_a_reciprocal_is_correctly_rounded() -> None:
    x = special_floats()
    with np.errstate(all="ignore"):
        assert_same_floats(run(34, bits(x)), np.float32(1) / x)


def test_bytes_are_permuted_by_digits() -> None:
    random = np.random.default_rng(0)
    a, b = (random.integers(0, 1 << 32, 1000, np.uint32) for _ in range(2))
    selector = random.integers(0, 8, (1000, 4))
    every = np.stack([a, b], 1).view(np.uint8)
    expected = np.take_along_axis(every, selector, 1).copy().view(np.uint32)[:, 0]
    assert np.array_equal(run(35, a, b, (selector << np.arange(0, 16, 4)).sum(1)), expected)


# ---- Warps


@pytest.mark.parametrize(
    ("op", "source"),
    [
        (40, lambda lane, b: b % 32),
        (41, lambda lane, b: lane ^ b),
        (42, lambda lane, b: np.where(lane + b < 32, lane + b, lane)),
    ],
    ids=["shuffle", "shuffle_xor", "shuffle_down"],
)
def test_a_shuffle_takes_the_value_of_its_lane(op: int, source: object) -> None:
    random = np.random.default_rng(0)
    value = random.integers(0, 1 << 32, (8, 32), np.uint32)
    operand = random.integers(0, 32, (8, 32), np.uint32)
    lanes = source(np.arange(32, dtype=np.uint32), operand)  # type: ignore[operator]
    expected = np.take_along_axis(value, lanes.astype(np.int64), 1)
    assert np.array_equal(run(op, value.ravel(), operand.ravel()), expected.ravel())


def test_a_shuffle_carries_64_bits() -> None:
    random = np.random.default_rng(0)
    a, b = (random.integers(0, 1 << 32, 32, np.uint32) for _ in range(2))
    lane = random.integers(0, 32, 32, np.uint32)
    expected = (((a.astype(np.uint64) << 32) | b) >> 16).astype(np.uint32)[lane]
    assert np.array_equal(run(46, a, b, lane), expected)


def test_a_ballot_has_a_bit_a_lane() -> None:
    votes = np.random.default_rng(0).integers(0, 2, (4, 32), np.uint32)
    expected = (votes << np.arange(32, dtype=np.uint32)).sum(1, dtype=np.uint32)
    assert np.array_equal(run(43, votes.ravel()), np.repeat(expected, 32))


def test_lanes_are_numbered_within_their_warp() -> None:
    assert np.array_equal(run(45, np.zeros(128, np.uint32)), np.arange(128, dtype=np.uint32) % 32)


def test_a_transposition_swaps_rows_and_columns_of_16_bits() -> None:
    matrix = np.random.default_rng(0).integers(0, 1 << 16, (8, 8)).astype(np.uint16)
    actual = run(44, matrix.view(np.uint32).ravel())
    assert np.array_equal(actual.view(np.uint16).reshape(8, 8), matrix.T)


# ---- Matrix products. Places of the elements as the PTX manual words them: register i of lane `lane`, element j.


def place_of_a(kind: str, lane: int, i: int, j: int) -> tuple[int, int]:
    group, in_group = lane >> 2, lane % 4
    if kind == "tf32":
        return group if i in (0, 2) else group + 8, in_group if i in (0, 1) else in_group + 4
    element = 2 * i + j  # a0 ... a7
    row = group if element in (0, 1, 4, 5) else group + 8
    return row, in_group * 2 + (element & 1) + (8 if element >= 4 else 0)


def place_of_b(kind: str, lane: int, i: int, j: int) -> tuple[int, int]:
    group, in_group = lane >> 2, lane % 4
    if kind == "tf32":
        return in_group + 4 * i, group
    element = 2 * i + j  # b0 ... b3
    return in_group * 2 + (element & 1) + (8 if element >= 2 else 0), group


def place_of_d(lane: int, i: int) -> tuple[int, int]:
    return (lane >> 2) + (8 if i >= 2 else 0), (lane % 4) * 2 + (i & 1)


MMA = {"f16": (0, 16), "bf16": (1, 16), "tf32": (2, 8), "f16_k8": (3, 8), "bf16_k8": (4, 8)}  # kind of the toy, depth


def as_bits(kind: str, value: float) -> int:
    if kind == "tf32":
        return int(np.float32(value).view(np.uint32))
    dtype = torch.bfloat16 if kind.startswith("bf16") else torch.float16
    return int(torch.tensor(value, dtype=dtype).view(torch.int16).item()) & 0xFFFF


def fragments(kind: str, matrix: NDArray[np.float32], registers: int, places: object) -> Bits:
    result = np.zeros((32, registers), np.uint32)
    for lane, i in itertools.product(range(32), range(registers)):
        for j in range(1 if kind == "tf32" else 2):
            row, column = places(kind, lane, i, j)  # type: ignore[operator]
            if row < matrix.shape[0] and column < matrix.shape[1]:
                result[lane, i] |= as_bits(kind, float(matrix[row, column])) << 16 * j
    return result


@functools.cache
def fragment_toy() -> Toy:
    return Toy("fragments")


def multiplied(
    kind: str, a: NDArray[np.float32], b: NDArray[np.float32], c: NDArray[np.float32]
) -> NDArray[np.float32]:
    d = np.array([[c[place_of_d(lane, i)] for i in range(4)] for lane in range(32)], np.float32)
    of_a, of_b = fragments(kind, a, 4, place_of_a), fragments(kind, b, 2, place_of_b)
    fragment_toy().run([MMA[kind][0], 1], [reads(of_a), reads(of_b), updates(d)])
    result = np.empty((16, 8), np.float32)
    for lane, i in itertools.product(range(32), range(4)):
        result[place_of_d(lane, i)] = d[lane, i]
    return result


@pytest.mark.parametrize("kind", MMA)
def test_a_product_of_integers_is_exact(kind: str) -> None:
    random = np.random.default_rng(0)
    depth = MMA[kind][1]
    a, b, c = (random.integers(-9, 9, s).astype(np.float32) for s in ((16, depth), (depth, 8), (16, 8)))
    assert np.array_equal(multiplied(kind, a, b, c), c + a @ b)


@pytest.mark.parametrize("kind", MMA)
def test_a_product_loses_no_more_than_the_largest_terms_last_bit_of_every_term(kind: str) -> None:
    random = np.random.default_rng(0)
    depth = MMA[kind][1]
    a, b, c = (random.normal(size=s).astype(np.float32) for s in ((16, depth), (depth, 8), (16, 8)))
    if kind == "tf32":
        a, b = (floats(bits(m) & np.uint32(0xFFFFE000)).reshape(m.shape) for m in (a, b))
    else:
        dtype = torch.bfloat16 if kind.startswith("bf16") else torch.float16
        a, b = (torch.from_numpy(m).to(dtype).float().numpy() for m in (a, b))
    terms = np.concatenate([c[:, None], a[:, :, None] * b[None]], axis=1).astype(np.float64)
    exact = terms.sum(axis=1)
    last_bits = (depth + 1) * np.abs(terms).max(axis=1) + np.abs(exact)
    assert np.all(np.abs(multiplied(kind, a, b, c) - exact) <= np.finfo(np.float32).eps * last_bits)


@pytest.mark.parametrize("kind", MMA)
@pytest.mark.parametrize("sign", [1, -1], ids=["plus", "minus"])
def test_a_product_cuts_off_what_the_largest_term_does_not_show(kind: str, sign: int) -> None:
    depth = MMA[kind][1]
    small = np.full((depth, 8), np.float32(2.0**-14))
    a, c = np.full((16, depth), np.float32(sign * 2.0**-10)), np.full((16, 8), np.float32(sign))
    assert depth * 2.0**-24 > np.finfo(np.float32).eps  # sums to the nearest would show it
    assert np.array_equal(multiplied(kind, a, small, c), c)


def test_tf32_ignores_the_lower_13_bits() -> None:
    ones = np.full((16, 8), np.float32(1))
    noisy = floats(bits(ones) | np.uint32(0x1FFF)).reshape(16, 8)
    assert np.array_equal(multiplied("tf32", noisy, ones[:8], np.zeros((16, 8), np.float32)), 8 * ones)


@pytest.mark.parametrize("kind", ["bf16", "bf16_k8", "tf32"])
def test_a_product_that_sm_75_lacks_is_refused_there(kind: str) -> None:
    zeros = np.zeros((16, 16), np.float32)
    message = f"mma_{kind} needs sm_80, and the device is sm_75"
    with fragment_toy().emulator.device(DEVICES[75]), pytest.raises(RuntimeError, match=message):
        multiplied(kind, zeros, zeros, zeros)


# ---- Atomic additions


@pytest.mark.parametrize("seed", range(3))
def test_atomic_additions_lose_nothing(seed: int) -> None:
    blocks, threads = 3, 3 * 64
    values = np.random.default_rng(seed).integers(-50, 50, threads).astype(np.float32)
    integers, long_sum, floats_, doubles = (
        np.ones(n, t) for n, t in ((2, np.int32), (1, np.int64), (8, np.float32), (2, np.float64))
    )
    tickets, counter = np.empty(threads, np.uint32), np.full(1, 10, np.uint32)
    arrays = [updates(x) for x in (integers, long_sum, floats_, doubles)]
    Toy("additions").run([blocks], [reads(values), *arrays, writes(tickets), updates(counter)], seed)
    total = int(values.sum())
    assert integers.tolist() == [1 + total] * 2
    assert long_sum.tolist() == [1 + (total << 32)]
    assert floats_.tolist() == [1 + n * total for n in (1, 1, 1, -1, 1, 2, -1, 0)]
    assert doubles.tolist() == [1 + total] * 2
    assert sorted(tickets) == list(range(10, 10 + threads))
    assert counter[0] == 10 + threads


def test_additions_to_global_floats_flush_denormals() -> None:
    denormal = np.float32(1e-40)
    values = np.full(64, denormal)
    values[0] = -0.0
    zeros = [updates(np.zeros(n, t)) for n, t in ((2, np.int32), (1, np.int64), (8, np.float32), (2, np.float64))]
    tickets = [writes(np.empty(64, np.uint32)), updates(np.zeros(1, np.uint32))]
    Toy("additions").run([1], [reads(values), *zeros, *tickets])
    by_shared, alone = zeros[2].array[:2]
    assert by_shared == 0  # kept in shared memory, flushed on its way to global memory
    assert alone == 0
    assert zeros[3].array[1] == pytest.approx(63e-40)
