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

// a + b, rounded downwards.
__device__ __forceinline__ float add_round_down(float a, float b) {
#ifdef __CUDACC__
  return __fadd_rd(a, b);
#else
  const float nearest = a + b;
  if (!std::isfinite(nearest)) {  // beyond the largest, only infinity itself is not above
    return std::isfinite(a) && std::isfinite(b) && nearest > 0 ? 0x1.fffffep127f : nearest;
  }
  // What was rounded off, exactly; an exact 0 of different signs is -0.
  const float b_part = nearest - a;
  const float error = (a - (nearest - b_part)) + (b - b_part);
  if (nearest == 0 && a == -b) return a == 0 && !std::signbit(a) && !std::signbit(b) ? 0.0f : -0.0f;
  return error < 0 ? std::nextafter(nearest, -INFINITY) : nearest;
#endif
}

// a - b, clamped to [0, 1]; NaN becomes 0.
__device__ __forceinline__ float subtract_saturate(float a, float b) {
#ifdef __CUDACC__
  float d;
  asm("sub.rn.sat.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
  return d;
#else
  const float d = a - b;
  return d > 0 ? (d < 1 ? d : 1.0f) : 0.0f;
#endif
}

// The smaller of a + b, modulo 2^32, and c. One instruction from sm_90 on.
__device__ __forceinline__ uint32_t add_min(uint32_t a, uint32_t b, uint32_t c) {
#ifdef __CUDACC__
  return __viaddmin_u32(a, b, c);
#else
  return min(a + b, c);
#endif
}

// The same for the two halves of 32 bits, modulo 2^16.
__device__ __forceinline__ uint32_t add_min_u16x2(uint32_t a, uint32_t b, uint32_t c) {
#ifdef __CUDACC__
  return __viaddmin_u16x2(a, b, c);
#else
  const uint32_t low = min(uint32_t(uint16_t(a + b)), c & 0xffff);
  const uint32_t high = min(uint32_t(uint16_t((a >> 16) + (b >> 16))), c >> 16);
  return low | high << 16;
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
