// float16 and bfloat16 as bits: a uint16_t holds one, a uint32_t two, the first in the lower half.
// Every operation rounds once, to the nearest, ties to even; a NaN that comes out is 0x7fff.
#pragma once

#include "platform.h"

namespace deformwarp::cuda {

#ifndef __CUDACC__
namespace plain_meaning {

// A floating type of 16 bits: as much as rounding has to know of it.
template <int mantissa_bits>
struct HalfType {
  static constexpr int exponent_bits = 15 - mantissa_bits;
  static constexpr int bias = (1 << (exponent_bits - 1)) - 1;
  static constexpr uint16_t infinity = ((1 << exponent_bits) - 1) << mantissa_bits;
  static constexpr uint16_t nan = 0x7fff;

  static double widened(uint16_t bits) {
    const int exponent = (bits & 0x7fff) >> mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
    const double sign = bits & 0x8000 ? -1 : 1;
    if ((bits & infinity) == infinity) return mantissa != 0 ? NAN : sign * INFINITY;
    const int implicit = exponent != 0 ? 1 << mantissa_bits : 0;
    return sign * std::ldexp(implicit + mantissa, max(exponent, 1) - bias - mantissa_bits);
  }

  static uint16_t rounded(double value) {
    if (std::isnan(value)) return nan;
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    value = std::fabs(value);
    if (std::isinf(value)) return sign | infinity;
    const int exponent = max(value == 0 ? -2000 : std::ilogb(value), 1 - bias);
    const double units = std::nearbyint(std::ldexp(value, mantissa_bits - exponent));
    // A carry out of the mantissa runs into the exponent, as it should; infinity is all that lies beyond the largest.
    const double bits = units + std::ldexp(exponent + bias - 1, mantissa_bits);
    return sign | (bits >= infinity ? infinity : uint16_t(bits));
  }
};
using Float16 = HalfType<10>;
using Bfloat16 = HalfType<7>;

// a + b such that rounding it again, to fewer bits, is as if it had been exact: an inexact sum gets an odd last bit.
inline double add_to_odd(double a, double b) {
  const double sum = a + b;
  if (!std::isfinite(sum)) return sum;
  const double b_part = sum - a;
  const double error = (a - (sum - b_part)) + (b - b_part);
  uint64_t bits = bit_cast<uint64_t>(sum);
  if (error != 0 && bits % 2 == 0) bits += (error > 0) == (sum > 0) ? 1 : -1;
  return bit_cast<double>(bits);
}

// The operations on one element. Products of two elements are exact in double.
inline double fma(double a, double b, double c) { return add_to_odd(a * b, c); }
inline double fma_relu(double a, double b, double c) {
  const double d = fma(a, b, c);
  return d < 0 ? 0 : d == 0 ? 0.0 : d;
}
inline double add(double a, double b, double) { return add_to_odd(a, b); }
inline double sub(double a, double b, double) { return add_to_odd(a, -b); }
inline double mul(double a, double b, double) { return a * b; }
inline double add_saturate(double a, double b, double) {
  const double sum = add_to_odd(a, b);
  return sum > 0 ? (sum < 1 ? sum : 1.0) : 0.0;
}
inline double greater(double a, double b, double) { return a > b ? 1 : 0; }
// A number wins over NaN, and -0 is less than +0.
inline double smaller(double a, double b, double) {
  return std::isnan(a) ? b : std::isnan(b) ? a : a == b ? (std::signbit(a) ? a : b) : (a < b ? a : b);
}
inline double larger(double a, double b, double) { return -smaller(-a, -b, 0); }

template <class Type>
uint32_t by_element(double (*operation)(double, double, double), uint32_t a, uint32_t b, uint32_t c = 0) {
  uint32_t result = 0;
  for (int shift = 0; shift < 32; shift += 16) {
    const auto element = [shift](uint32_t bits) { return Type::widened(uint16_t(bits >> shift)); };
    result |= uint32_t(Type::rounded(operation(element(a), element(b), element(c)))) << shift;
  }
  return result;
}

}  // namespace plain_meaning
#endif

// ---- Conversions

__device__ __forceinline__ uint16_t to_f16(float x) {
#ifdef __CUDACC__
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
#else
  return plain_meaning::Float16::rounded(x);
#endif
}

__device__ __forceinline__ float from_f16(uint16_t bits) {
#ifdef __CUDACC__
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
#else
  return float(plain_meaning::Float16::widened(bits));
#endif
}

// sm_75 has no instruction for it.
__device__ __forceinline__ uint16_t to_bf16(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
#else
  const uint32_t bits = bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;  // NaN
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#endif
}

__device__ __forceinline__ float from_bf16(uint16_t bits) { return bit_cast<float>(uint32_t(bits) << 16); }

__device__ __forceinline__ uint32_t pack_f16(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
#else
  return to_f16(low) | uint32_t(to_f16(high)) << 16;
#endif
}

__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
#else
  return to_bf16(low) | uint32_t(to_bf16(high)) << 16;
#endif
}

__device__ __forceinline__ float2 unpack_f16(uint32_t bits) {
  return make_float2(from_f16(uint16_t(bits)), from_f16(uint16_t(bits >> 16)));
}

__device__ __forceinline__ float2 unpack_bf16(uint32_t bits) {
  return make_float2(bit_cast<float>(bits << 16), bit_cast<float>(bits & 0xffff0000));
}

// ---- Two elements at once. The roundings are written out so that the assembler fuses no two operations into one.

#ifdef __CUDACC__
#define DEFORMWARP_TWO_OPERANDS(instruction)                  \
  uint32_t d;                                                 \
  asm(instruction " %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b)); \
  return d;
#define DEFORMWARP_THREE_OPERANDS(instruction)                            \
  uint32_t d;                                                             \
  asm(instruction " %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c)); \
  return d;
#endif

// a * b + c
__device__ __forceinline__ uint32_t fma_f16x2(uint32_t a, uint32_t b, uint32_t c) {
#ifdef __CUDACC__
  DEFORMWARP_THREE_OPERANDS("fma.rn.f16x2")
#else
  return plain_meaning::by_element<plain_meaning::Float16>(plain_meaning::fma, a, b, c);
#endif
}

__device__ __forceinline__ uint32_t add_f16x2(uint32_t a, uint32_t b) {
#ifdef __CUDACC__
  DEFORMWARP_TWO_OPERANDS("add.rn.f16x2")
#else
  return plain_meaning::by_element<plain_meaning::Float16>(plain_meaning::add, a, b);
#endif
}

__device__ __forceinline__ uint32_t sub_f16x2(uint32_t a, uint32_t b) {
#ifdef __CUDACC__
  DEFORMWARP_TWO_OPERANDS("sub.rn.f16x2")
#else
  return plain_meaning::by_element<plain_meaning::Float16>(plain_meaning::sub, a, b);
#endif
}

__device__ __forceinline__ uint32_t mul_f16x2(uint32_t a, uint32_t b) {
#ifdef __CUDACC__
  DEFORMWARP_TWO_OPERANDS("mul.rn.f16x2")
#else
  return plain_meaning::by_element<plain_meaning::Float16>(plain_meaning::mul, a, b);
#endif
}

// a + b, clamped to [0, 1]; NaN becomes 0.
__device__ __forceinline__ uint32_t add_saturate_f16x2(uint32_t a, uint32_t b) {
#ifdef __CUDACC__
  DEFORMWARP_TWO_OPERANDS("add.rn.sat.f16x2")
#else
  return plain_meaning::by_element<plain_meaning::Float16>(plain_meaning::add_saturate, a, b);
#endif
}

// 1 where a > b, else 0, and where one of them is NaN.
__device__ __forceinline__ uint32_t greater_f16x2(uint32_t a, uint32_t b) {
#ifdef __CUDACC__
  DEFORMWARP_TWO_OPERANDS("set.gt.f16x2.f16x2")
#else
  return plain_meaning::by_element<plain_meaning::Float16>(plain_meaning::greater, a, b);
#endif
}

// One of the two elements, twice. The assembler makes it part of the operation that takes it.
__device__ __forceinline__ uint32_t broadcast_low(uint32_t a) {
#ifdef __CUDACC__
  uint32_t d;
  asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; mov.b32 %0, {low, low};}" : "=r"(d) : "r"(a));
  return d;
#else
  return (a & 0xffff) * 0x10001u;
#endif
}
__device__ __forceinline__ uint32_t broadcast_high(uint32_t a) {
#ifdef __CUDACC__
  uint32_t d;
  asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; mov.b32 %0, {high, high};}" : "=r"(d) : "r"(a));
  return d;
#else
  return (a >> 16) * 0x10001u;
#endif
}

// The following are instructions from sm_80 on. Where sm_75 can do the same by way of float, it does.

__device__ __forceinline__ uint32_t min_f16x2(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  const float2 x = unpack_f16(a), y = unpack_f16(b);
  return pack_f16(fminf(x.x, y.x), fminf(x.y, y.y));
#elif defined(__CUDACC__)
  DEFORMWARP_TWO_OPERANDS("min.f16x2")
#else
  return plain_meaning::by_element<plain_meaning::Float16>(plain_meaning::smaller, a, b);
#endif
}

__device__ __forceinline__ uint32_t max_f16x2(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  const float2 x = unpack_f16(a), y = unpack_f16(b);
  return pack_f16(fmaxf(x.x, y.x), fmaxf(x.y, y.y));
#elif defined(__CUDACC__)
  DEFORMWARP_TWO_OPERANDS("max.f16x2")
#else
  return plain_meaning::by_element<plain_meaning::Float16>(plain_meaning::larger, a, b);
#endif
}

// a * b + c where that is positive, else 0; NaN stays.
__device__ __forceinline__ uint32_t fma_relu_f16x2(uint32_t a, uint32_t b, uint32_t c) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  const float2 d = unpack_f16(fma_f16x2(a, b, c));
  return pack_f16(d.x <= 0 ? 0 : d.x, d.y <= 0 ? 0 : d.y);
#elif defined(__CUDACC__)
  DEFORMWARP_THREE_OPERANDS("fma.rn.relu.f16x2")
#else
  return plain_meaning::by_element<plain_meaning::Float16>(plain_meaning::fma_relu, a, b, c);
#endif
}

__device__ __forceinline__ uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  __trap();
  return 0;
#elif defined(__CUDACC__)
  DEFORMWARP_THREE_OPERANDS("fma.rn.bf16x2")
#else
  emulation::require_architecture(80, "fma_bf16x2");
  return plain_meaning::by_element<plain_meaning::Bfloat16>(plain_meaning::fma, a, b, c);
#endif
}

__device__ __forceinline__ uint32_t fma_relu_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  __trap();
  return 0;
#elif defined(__CUDACC__)
  DEFORMWARP_THREE_OPERANDS("fma.rn.relu.bf16x2")
#else
  emulation::require_architecture(80, "fma_relu_bf16x2");
  return plain_meaning::by_element<plain_meaning::Bfloat16>(plain_meaning::fma_relu, a, b, c);
#endif
}

// Sums and products are fused operations with a neutral third operand: sm_80 has no others.
__device__ __forceinline__ uint32_t add_bf16x2(uint32_t a, uint32_t b) {
  return fma_bf16x2(a, 0x3f803f80, b);
}  // a*1+b
__device__ __forceinline__ uint32_t sub_bf16x2(uint32_t a, uint32_t b) { return fma_bf16x2(b, 0xbf80bf80, a); }  // -b+a
__device__ __forceinline__ uint32_t mul_bf16x2(uint32_t a, uint32_t b) { return fma_bf16x2(a, b, 0x80008000); }  // ab-0

__device__ __forceinline__ uint32_t min_bf16x2(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  __trap();
  return 0;
#elif defined(__CUDACC__)
  DEFORMWARP_TWO_OPERANDS("min.bf16x2")
#else
  emulation::require_architecture(80, "min_bf16x2");
  return plain_meaning::by_element<plain_meaning::Bfloat16>(plain_meaning::smaller, a, b);
#endif
}

__device__ __forceinline__ uint32_t max_bf16x2(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  __trap();
  return 0;
#elif defined(__CUDACC__)
  DEFORMWARP_TWO_OPERANDS("max.bf16x2")
#else
  emulation::require_architecture(80, "max_bf16x2");
  return plain_meaning::by_element<plain_meaning::Bfloat16>(plain_meaning::larger, a, b);
#endif
}

#ifdef __CUDACC__
#undef DEFORMWARP_TWO_OPERANDS
#undef DEFORMWARP_THREE_OPERANDS
#endif

}  // namespace deformwarp::cuda
