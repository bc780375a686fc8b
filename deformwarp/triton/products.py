"""Matrix products as exact as their operands' type.

Half types are multiplied directly. Float32, on units that know it only as TF32, is cut into two halves of 11 bits, and
a product is three: without that of the lower halves, which is below float32's rounding.
"""

import triton
import triton.language as tl


@triton.jit
def halves(number, TF32: tl.constexpr):
    """A float32 rounded to TF32, and the rest; without TF32 there is none."""
    upper = number
    lower = number
    if TF32:
        upper = ((number.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
        lower = number - upper
    return upper, lower


@triton.jit
def product(a, a_lower, b, b_lower, total, TF32: tl.constexpr):
    """total + a @ b.

    Tensor cores cut off towards zero what a sum has no bits for, which many products would show in a float32: they get
    sums of one product each, and those are added up to the nearest. Of the orders this one takes the fewest registers.
    """
    if TF32:
        one = tl.dot(a, b, input_precision="tf32")
        one = tl.dot(a_lower, b, one, input_precision="tf32")
        total += tl.dot(a, b_lower, one, input_precision="tf32")
    else:
        total = tl.dot(a, b, total, input_precision="ieee")
    return total
