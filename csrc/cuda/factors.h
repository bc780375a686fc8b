// Numbers as the tensor cores multiply them. Their TF32 has the 11 significant bits of a float16: one of them holds a
// half type's value, or a sample of one, about as well as the type itself; a float32 is the sum of two, high and low.
#pragma once

#include "element.h"

namespace deformwarp::cuda {

// N factors in the order of an instruction's registers.
template <class T, int N>
struct Factors {
  uint32_t high[N];

  // Bits that TF32 does not have are dropped by the instruction: half of the last one is added before.
  __device__ __forceinline__ void set(int i, float value) { high[i] = bit_cast<uint32_t>(value * (1 + 0x1p-12f)); }
};

template <int N>
struct Factors<float, N> {
  uint32_t high[N], low[N];

  // Rounded to the nearest TF32; what is left fits into another but for its last bit, the last one of a float32.
  __device__ __forceinline__ void set(int i, float value) {
    high[i] = (bit_cast<uint32_t>(value) + 0x1000u) & 0xffffe000u;
    low[i] = bit_cast<uint32_t>(value - bit_cast<float>(high[i]));
  }
};

template <class T>
constexpr bool has_low_parts = sizeof(Factors<T, 1>) == 8;

// sums[16, 8] += a[16, 8] * b[8, 8], in the fragments of mma_tf32.
template <class T>
__device__ __forceinline__ void multiply_add(float (&sums)[4], const Factors<T, 4>& a, const Factors<T, 2>& b) {
  if constexpr (has_low_parts<T>) {
    // Small terms first; the product of the two low parts is below the last bit of a float32.
    mma_tf32(sums, a.low, b.high);
    mma_tf32(sums, a.high, b.low);
  }
  mma_tf32(sums, a.high, b.high);
}

// The same for sums of hundreds of products. Tensor cores cut off what a sum has no bits for, always towards zero; that
// would add up to more than a float32's rounding. So they sum up eight products, and those sums are added as floats
// are.
template <class T>
__device__ __forceinline__ void add_product(float (&sums)[4], const Factors<T, 4>& a, const Factors<T, 2>& b) {
  if constexpr (has_low_parts<T>) {
    warp_barrier();  // else the compiler starts many products at once, and runs out of registers
    float product[4] = {};
    multiply_add<T>(product, a, b);
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += product[i];
    warp_barrier();
  } else {
    multiply_add<T>(sums, a, b);
  }
}

}  // namespace deformwarp::cuda
