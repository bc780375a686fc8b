"""Floating types by exact arithmetic, as the IEEE standard has it: nothing here is rounded but once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

Number = Fraction | float  # float only for infinities, NaN and the two zeros


def _power(exponent: int) -> Fraction:
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


@dataclass(frozen=True)
class FloatType:
    """A type with a sign, so many bits of exponent, and so many of mantissa."""

    exponent_bits: int
    mantissa_bits: int

    @property
    def sign(self) -> int:
        return 1 << (self.exponent_bits + self.mantissa_bits)

    @property
    def nan(self) -> int:
        """The one that NVIDIA's instructions return."""
        return self.sign - 1

    @property
    def infinity(self) -> int:
        return self.sign - (1 << self.mantissa_bits)

    @property
    def one(self) -> int:
        return self.bits(Fraction(1))

    @property
    def lowest_exponent(self) -> int:
        return 2 - (1 << (self.exponent_bits - 1))

    def value(self, bits: int) -> Number:
        sign = -1 if bits & self.sign else 1
        magnitude = bits & (self.sign - 1)
        if magnitude > self.infinity:
            return math.nan
        if magnitude == self.infinity:
            return sign * math.inf
        if magnitude == 0:
            return sign * 0.0
        exponent, mantissa = magnitude >> self.mantissa_bits, magnitude & ((1 << self.mantissa_bits) - 1)
        if exponent > 0:
            mantissa += 1 << self.mantissa_bits
        return sign * mantissa * _power(max(exponent, 1) - 1 + self.lowest_exponent - self.mantissa_bits)

    def bits(self, value: Number) -> int:
        """The nearest, ties to even."""
        if value != value:
            return self.nan
        sign = self.sign if _negative(value) else 0
        if isinstance(value, float):
            return sign | (self.infinity if value != 0 else 0)
        magnitude = abs(value)
        exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
        exponent = max(exponent - (magnitude < _power(exponent)), self.lowest_exponent)
        units = round(magnitude * _power(self.mantissa_bits - exponent))  # Python rounds ties to even
        return sign | min(units + ((exponent - self.lowest_exponent) << self.mantissa_bits), self.infinity)


FLOAT32 = FloatType(8, 23)
FLOAT16 = FloatType(5, 10)
BFLOAT16 = FloatType(8, 7)


def _negative(x: Number) -> bool:
    return math.copysign(1, x) < 0 if isinstance(x, float) else x < 0


def multiply(a: Number, b: Number) -> Number:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a * b
    a, b = (x if isinstance(x, float) else -1.0 if x < 0 else 1.0 for x in (a, b))
    return a * b


def add(a: Number, b: Number) -> Number:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a + b if a + b != 0 else 0.0
    if isinstance(a, float) and isinstance(b, float):
        return a + b
    special, other = (a, b) if isinstance(a, float) else (b, a)
    return other if special == 0 else special


def fma(a: Number, b: Number, c: Number) -> Number:
    return add(multiply(a, b), c)


def _order(x: Number) -> tuple[Number, bool]:
    return x, not _negative(x)  # -0 is less than +0


def smaller(a: Number, b: Number) -> Number:
    if a != a or b != b:
        return b if a != a else a
    return min(a, b, key=_order)


def larger(a: Number, b: Number) -> Number:
    if a != a or b != b:
        return b if a != a else a
    return max(a, b, key=_order)


def relu(x: Number) -> Number:
    return x if x != x or x > 0 else 0.0


def saturate(x: Number) -> Number:
    """Clamped to [0, 1]; NaN and -0 become 0."""
    return Fraction(1) if x > 1 else x if x > 0 else 0.0


OPERATIONS: dict[str, Callable[[Number, Number, Number], Number]] = {
    "fma": fma,
    "fma_relu": lambda a, b, c: relu(fma(a, b, c)),
    "add": lambda a, b, c: add(a, b),
    "sub": lambda a, b, c: add(a, -b),
    "mul": lambda a, b, c: multiply(a, b),
    "min": lambda a, b, c: smaller(a, b),
    "max": lambda a, b, c: larger(a, b),
}
