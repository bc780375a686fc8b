// Scalar instructions that C++ has no operator for.
#pragma once

#include "platform.h"

namespace deformwarp::cuda {

// a * b + c, rounded once and clamped to [0, 1]; NaN becomes 0.
__device__ __forceinline__ float fma_saturate(float a, float b, float c) {
#ifdef __CUDACC__
  float d;
  asm("fma.rn.sat.f32 %0, %1, %2, %3;" : "=f"(d) : "f"(a), "f"(b), "f"(c));
  return d;
#else
  const float d = std::fma(a, b, c);
  return d > 0 ? (d < 1 ? d : 1.0f) : 0.0f;
#endif
}

#ifndef __CUDACC__
namespace plain_meaning {

// As the hardware converts: what does not fit becomes the nearest that does, and NaN 0.
inline int to_int(float whole) {
  if (!(whole == whole)) return 0;
  if (whole >= 2147483648.0f) return INT32_MAX;
  if (whole < -2147483648.0f) return INT32_MIN;
  return int(whole);
}

}  // namespace plain_meaning
#endif

// The largest integer that is not above x, held within 32 bits; NaN becomes 0.
__device__ __forceinline__ int floor_to_int(float x) {
#ifdef __CUDACC__
  return __float2int_rd(x);
#else
  return plain_meaning::to_int(std::floor(x));
#endif
}

// The nearest integer, the even one of two, held within 32 bits; NaN becomes 0.
__device__ __forceinline__ int round_to_int(float x) {
#ifdef __CUDACC__
  return __float2int_rn(x);
#else
  return plain_meaning::to_int(std::nearbyint(x));
#endif
}

// 1 / x, correctly rounded.
__device__ __forceinline__ float reciprocal(float x) {
#ifdef __CUDACC__
  return __frcp_rn(x);
#else
  return 1.0f / x;
#endif
}

// Four bytes out of the eight of (b, a), a's four being 0 to 3: one hexadecimal digit of the selector for each.
__device__ __forceinline__ uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selector) {
#ifdef __CUDACC__
  return __byte_perm(a, b, selector);
#else
  const uint64_t all = uint64_t(b) << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) result |= uint32_t(all >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return result;
#endif
}

// The bits of x as tensor cores take them: 10 bits of mantissa, the nearest, ties away from zero.
__device__ __forceinline__ uint32_t to_tf32(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
#else
  const uint32_t bits = bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fffffff;  // NaN
  return (bits + ((bits & 0x7f800000) != 0x7f800000 ? 0x1000 : 0)) & ~uint32_t(0x1fff);
#endif
}

}  // namespace deformwarp::cuda
