// Sums in shared memory that do not depend on the order of their terms: integers, docs/mathematics.md (13). Shared
// memory adds 32-bit integers only, so that float32 takes two of them for a sum.
#pragma once

#include <climits>

#include "cells.h"
#include "element.h"

namespace deformwarp::cuda::planar {

// A sum takes this many terms, none larger than `bound`, before it must be emptied.
constexpr int most_terms = 1 << 16;
// A term is an integer of at most 15 bits, and 16 bits are left for their number.
constexpr int term_bits = 15;
// What is left of a float32 term after that fits another integer of 14 bits and a sign.
constexpr int low_term_bits = 15;
constexpr int not_finite = INT_MAX;

// Terms are multiples of 2^-exponent: the largest exponent that leaves `bound` its bits.
__device__ __forceinline__ int exponent_for(float bound) {
  const int biased = int(bit_cast<uint32_t>(bound) >> 23);  // bound >= 0, or NaN
  if (biased == 255) return not_finite;
  return min(term_bits - 1 - (max(biased, 1) - 127), 126);
}

__device__ __forceinline__ float power_of_two(int exponent) { return bit_cast<float>(uint32_t(exponent + 127) << 23); }

// The nearest integer to a float32 of less than 2^22.
__device__ __forceinline__ float shifted_integer(float value) { return value + integer_shift; }
__device__ __forceinline__ int integer_of(float shifted) {
  return int(bit_cast<uint32_t>(shifted) - integer_shift_bits);
}
// The same, and integer_shift_bits more.
__device__ __forceinline__ int shifted_bits(float value) { return bit_cast<int>(shifted_integer(value)); }

// (7): a sample's gradient, in units of 2^-exponent, to the four pixels whose sums begin at `top` and `bottom`.
template <class T>
struct FixedSum {
  static constexpr uint32_t bytes = 4;
  static constexpr int extra_bits = 0;  // of the whole sum, beyond the exponent

  // As differences of four rounded products the shares add up to the first of them: nothing gets lost. And what a
  // shifted integer has too much cancels.
  static __device__ __forceinline__ void scatter(uint32_t top, uint32_t bottom, float terms, float ly, float lx) {
    const float right_terms = terms * lx;
    const int all = shifted_bits(terms), right = shifted_bits(right_terms);
    const int below = shifted_bits(terms * ly), right_below = shifted_bits(right_terms * ly);
    const int bottom_left = below - right_below;
    shared_add(top, all - right - bottom_left);
    shared_add(top + bytes, right - right_below);
    shared_add(bottom, bottom_left);
    shared_add(bottom + bytes, right_below - int(integer_shift_bits));
  }
  // Empties the sum.
  static __device__ __forceinline__ int64_t take(uint32_t address) {
    const int sum = shared_load<int>(address);
    shared_store(address, 0);
    return sum;
  }
};

template <>
struct FixedSum<float> {
  static constexpr uint32_t bytes = 8;
  static constexpr int extra_bits = low_term_bits;

  static __device__ __forceinline__ void scatter(uint32_t top, uint32_t bottom, float terms, float ly, float lx) {
    const CornerGradients<float> corners = bilinear_scatter(terms, ly, lx);
    add(top, corners.top_left);
    add(top + bytes, corners.top_right);
    add(bottom, corners.bottom_left);
    add(bottom + bytes, corners.bottom_right);
  }
  static __device__ __forceinline__ void add(uint32_t address, float term) {
    const float high = shifted_integer(term);
    const float rest = term - (high - integer_shift);
    shared_add(address, integer_of(high));
    shared_add(address + 4, integer_of(shifted_integer(rest * float(1 << low_term_bits))));
  }
  static __device__ __forceinline__ int64_t take(uint32_t address) {
    const int2 sum = shared_load<int2>(address);
    shared_store(address, make_int2(0, 0));
    return (int64_t(sum.x) << low_term_bits) + sum.y;
  }
};

}  // namespace deformwarp::cuda::planar
