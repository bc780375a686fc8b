// Element types in memory and the arithmetic done on them: float64 stays float64, the rest is float32.
#pragma once

#include <algorithm>

#include "simd.h"

namespace deformwarp::DEFORMWARP_ISA {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <class Stored>
struct ArithmeticOf {
  using type = float;
};
template <>
struct ArithmeticOf<double> {
  using type = double;
};
template <class Stored>
using Arithmetic = typename ArithmeticOf<Stored>::type;

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline float widen(float value) { return value; }
inline double widen(double value) { return value; }
inline float widen(BFloat16 value) { return float_of(uint32_t(value.bits) << 16); }

inline float widen(Half value) {
  const uint32_t sign = uint32_t(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = uint32_t(value.bits & 0x7fffu) << 13;
  if (magnitude >= 0x0f800000u) return float_of(sign | magnitude | 0x7f800000u);  // infinity, NaN
  // Scaling by 2^112 moves the exponent's bias from 15 to 127 and makes subnormal halves normal.
  return float_of(sign | bits_of(float_of(magnitude) * 0x1p112f));
}

inline void narrow(float value, float& to) { to = value; }
inline void narrow(double value, double& to) { to = value; }

// To the nearest, ties to even, as PyTorch does.
inline void narrow(float value, BFloat16& to) {
  const uint32_t bits = bits_of(value);
  to.bits = value != value ? 0x7fc0u : uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline void narrow(float value, Half& to) {
  const uint32_t bits = bits_of(value);
  const uint16_t sign = uint16_t((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    to.bits = sign | 0x7e00u;  // NaN
  } else if (magnitude >= 0x477ff000u) {
    to.bits = sign | 0x7c00u;  // rounds to 65536 or more: infinity
  } else if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 lets the adder round to the spacing of 2^-24.
    to.bits = sign | uint16_t(bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f));
  } else {
    to.bits = sign | uint16_t((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13);
  }
}

// Up to one vector of elements, widened; lanes from `count` on are 0.
template <class Stored>
inline Vec<Arithmetic<Stored>> load_widened(const Stored* from, int64_t count) {
  using T = Arithmetic<Stored>;
  if constexpr (sizeof(Stored) == sizeof(T)) {
    return load(from, count);
  } else {
#if defined(__AVX512F__)
    if (count >= lanes<T>) {
      const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      if constexpr (std::is_same_v<Stored, Half>) return _mm512_cvtph_ps(bits);
      return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
#elif defined(__AVX2__)
    if (count >= lanes<T>) {
      const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
      if constexpr (std::is_same_v<Stored, Half>) return _mm256_cvtph_ps(bits);
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }
#endif
    Vec<T> v{};
    for (int64_t l = 0; l < std::min<int64_t>(count, lanes<T>); ++l) v[l] = widen(from[l]);
    return v;
  }
}

template <class Stored>
inline void stream_narrowed(Stored* to, Vec<Arithmetic<Stored>> v, int64_t count) {
  using T = Arithmetic<Stored>;
  if constexpr (sizeof(Stored) == sizeof(T)) {
    stream(to, v, count);
  } else {
    for (int64_t l = 0; l < std::min<int64_t>(count, lanes<T>); ++l) narrow(T(v[l]), to[l]);
  }
}

template <class Stored>
inline void widen_row(const Stored* from, Arithmetic<Stored>* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = widen(from[i]);
}

template <class Stored>
inline void narrow_row(const Arithmetic<Stored>* from, Stored* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) narrow(from[i], to[i]);
}

}  // namespace deformwarp::DEFORMWARP_ISA
