// Sums that do not depend on the order of their terms: integers, docs/mathematics.md (13).
#pragma once

#include <climits>
#include <cmath>

#include "ptx.h"

namespace deformwarp::cuda {

// A sum's terms are multiples of 2^-exponent, float64's of 2^-(exponent + low_bits).
constexpr int low_bits = 30;  // 2^33 terms fit beside them
constexpr int not_finite = INT_MAX;

template <class T>
struct FixedPoint;
template <>
struct FixedPoint<float> {
  static constexpr int limbs = 1;
  static constexpr int largest_bound = 127;  // larger than 2^127 cannot be told from infinity
  static constexpr int largest_exponent = 252;
};
template <>
struct FixedPoint<double> {
  static constexpr int limbs = 2;
  static constexpr int largest_bound = 1000;
  static constexpr int largest_exponent = 2000;
};

// The exponent for sums of terms whose absolute values add up to at most `bound`: none of them overflows 62 bits.
template <class T>
__device__ __forceinline__ int exponent_for(double bound) {
  int power;  // bound < 2^power
  std::frexp(bound, &power);
  if (!(bound <= std::ldexp(1.0, FixedPoint<T>::largest_bound))) return not_finite;
  if (bound == 0) return 0;
  const int exponent = 61 - power;
  return exponent < FixedPoint<T>::largest_exponent ? exponent : FixedPoint<T>::largest_exponent;
}

// 2^exponent as two factors: itself it may be too large for T.
template <class T>
struct FixedPointScale {
  T factor, other_factor;

  __device__ __forceinline__ static FixedPointScale of(int exponent) {
    const int half = exponent / 2;
    return {std::ldexp(T(1), half), std::ldexp(T(1), exponent - half)};
  }
  __device__ __forceinline__ T operator()(T term) const { return term * factor * other_factor; }
};

// `scaled` terms go to the first limb's integer, their digits behind the point to the second's, `limb_stride` further.
__device__ __forceinline__ void add_fixed(int64_t* sums, int64_t, float scaled) {
  global_add(sums, int64_t(std::llrint(scaled)));
}

__device__ __forceinline__ void add_fixed(int64_t* sums, int64_t limb_stride, double scaled) {
  const double high = std::rint(scaled);
  global_add(sums, int64_t(high));
  // Exact: a double with digits behind the point has few before it.
  global_add(sums + limb_stride, int64_t(std::rint((scaled - high) * double(int64_t(1) << low_bits))));
}

template <class T>
__device__ __forceinline__ T value_of_fixed(const int64_t* sums, int64_t limb_stride, int exponent) {
  if (exponent == not_finite) return T(NAN);
  double sum = double(global_load(sums));
  if constexpr (FixedPoint<T>::limbs == 2) {
    sum += double(global_load(sums + limb_stride)) / double(int64_t(1) << low_bits);
  }
  return T(std::ldexp(sum, -exponent));
}

}  // namespace deformwarp::cuda
