// Vectors as wide as the instruction set that this translation unit is compiled for. Arithmetic is the
// compiler's own on vector types; only what it cannot express is written with intrinsics.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "../bilinear.h"

namespace deformwarp::DEFORMWARP_ISA {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int vector_registers = 32;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
constexpr int vector_registers = 16;
#else
constexpr int vector_bytes = 16;
constexpr int vector_registers = 16;
#endif

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(vector_bytes)));
  typedef int32_t index_type __attribute__((vector_size(vector_bytes / sizeof(T) * sizeof(int32_t))));
};
template <class T>
using Vec = typename VectorOf<T>::type;
// As many 32-bit integers as Vec<T> has lanes.
template <class T>
using IndexVec = typename VectorOf<T>::index_type;

template <class T>
constexpr int lanes = vector_bytes / sizeof(T);

template <class T>
inline Vec<T> broadcast(T value) {
  return value - Vec<T>{};
}

template <class T>
inline Vec<T> load(const T* from) {
  Vec<T> v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

// The first `count` lanes; the others are 0.
template <class T>
inline Vec<T> load(const T* from, int64_t count) {
  if (count >= lanes<T>) return load(from);
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), from);
#endif
  Vec<T> v{};
  std::memcpy(&v, from, count * sizeof(T));
  return v;
}

template <class T>
inline void store(T* to, Vec<T> v) {
  std::memcpy(to, &v, sizeof(v));
}

template <class T>
inline void store(T* to, Vec<T> v, int64_t count) {
  if (count >= lanes<T>) return store(to, v);
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_mask_storeu_ps(to, __mmask16((1u << count) - 1), v);
#endif
  std::memcpy(to, &v, count * sizeof(T));
}

// Calls visit(first, lanes) for `count` elements, a vector at a time. That the lanes of whole vectors are a constant
// lets the compiler leave the cases for fewer out of the loop.
template <class T, class Visit>
inline void for_each_vector(int64_t count, const Visit& visit) {
  int64_t i = 0;
  for (; i + lanes<T> <= count; i += lanes<T>) visit(i, std::integral_constant<int64_t, lanes<T>>{});
  if (i < count) visit(i, count - i);
}

// A store that does not bring its line into the cache: for results that nobody reads soon.
template <class T>
inline void stream(T* to, Vec<T> v, int64_t count) {
#if defined(__AVX512F__)
  if (count >= lanes<T> && reinterpret_cast<uintptr_t>(to) % vector_bytes == 0) {
    return _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)v);
  }
#elif defined(__AVX2__)
  if (count >= lanes<T> && reinterpret_cast<uintptr_t>(to) % vector_bytes == 0) {
    return _mm256_stream_si256(reinterpret_cast<__m256i*>(to), (__m256i)v);
  }
#endif
  store(to, v, count);
}

// Makes streamed stores visible before another thread is told that they are done.
inline void end_streaming() {
#if defined(__AVX2__) || defined(__AVX512F__)
  _mm_sfence();
#endif
}

// Into [low, high]; NaN becomes low, on every instruction set.
template <class T>
inline Vec<T> clamp(Vec<T> v, T low, T high) {
  const Vec<T> lows = broadcast(low), highs = broadcast(high);
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_min_ps(_mm512_max_ps(v, lows), highs);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return _mm256_min_ps(_mm256_max_ps(v, lows), highs);
#endif
  const Vec<T> raised = v > lows ? v : lows;
  return raised < highs ? raised : highs;
}

// The largest integers that are not above the lanes, and what the lanes exceed them by.
template <class T>
struct Parts {
  IndexVec<T> floor;
  Vec<T> fraction;
};

template <class T>
inline Parts<T> split(Vec<T> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    constexpr int downwards = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
    return {(IndexVec<T>)_mm512_cvt_roundps_epi32(v, downwards), _mm512_reduce_ps(v, downwards)};
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    const __m256 floor = _mm256_floor_ps(v);
    return {(IndexVec<T>)_mm256_cvttps_epi32(floor), v - floor};
  }
#endif
  const IndexVec<T> truncated = __builtin_convertvector(v, IndexVec<T>);
  const auto above = __builtin_convertvector(truncated, Vec<T>) > v;  // -1 where it is
  const IndexVec<T> floor = truncated + __builtin_convertvector(above, IndexVec<T>);
  return {floor, v - __builtin_convertvector(floor, Vec<T>)};
}

// rows * pitch where both fit in 16 bits: the 32-bit product takes twice as long.
template <class T>
inline IndexVec<T> times_pitch(IndexVec<T> rows, int32_t pitch) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return (IndexVec<T>)_mm512_madd_epi16((__m512i)rows, _mm512_set1_epi32(pitch));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return (IndexVec<T>)_mm256_madd_epi16((__m256i)rows, _mm256_set1_epi32(pitch));
#endif
  return rows * pitch;
}

template <class T>
inline T sum(Vec<T> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_reduce_add_ps(v);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
#endif
  T total = 0;
  for (int l = 0; l < lanes<T>; ++l) total += v[l];
  return total;
}

#if defined(__AVX2__) || defined(__AVX512F__)
// Four floats at each of two neighbouring indices, which are read together: loads are what sampling waits for.
struct TwoQuads {
  __m128 first, second;

  TwoQuads(const float* quads, int64_t quad_step, const int32_t* index) {
    uint64_t both;
    std::memcpy(&both, index, sizeof(both));
    asm("" : "+r"(both));  // or compilers load its halves again
    first = _mm_loadu_ps(quads + quad_step * (both & 0xffffffffu));
    second = _mm_loadu_ps(quads + quad_step * (both >> 32));
  }
};
#endif

// The corners of the samples at `index` in a plane of (value, step to the row below) pairs. Two neighbouring
// pairs hold all four corners, so that one 128-bit load brings a float sample and a 4x4 transposition sorts
// them; gather instructions take twice as long.
template <class T>
inline Corners<Vec<T>> load_corners(const T* pairs, const int32_t* index) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    __m512 rows[4];  // lane group l of rows[m] holds sample 4l + m
    for (int m = 0; m < 4; m += 2) {
      const TwoQuads group0(pairs, 2, index + m), group1(pairs, 2, index + m + 4);
      const TwoQuads group2(pairs, 2, index + m + 8), group3(pairs, 2, index + m + 12);
      const auto join = [](__m128 a, __m128 b, __m128 c, __m128 d) {
        const __m512 two = _mm512_insertf32x4(_mm512_castps128_ps512(a), b, 1);
        return _mm512_insertf32x4(_mm512_insertf32x4(two, c, 2), d, 3);
      };
      rows[m] = join(group0.first, group1.first, group2.first, group3.first);
      rows[m + 1] = join(group0.second, group1.second, group2.second, group3.second);
    }
    const __m512d left01 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[0], rows[1]));
    const __m512d left23 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[2], rows[3]));
    const __m512d right01 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[0], rows[1]));
    const __m512d right23 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[2], rows[3]));
    return {_mm512_castpd_ps(_mm512_unpacklo_pd(left01, left23)), _mm512_castpd_ps(_mm512_unpackhi_pd(left01, left23)),
            _mm512_castpd_ps(_mm512_unpacklo_pd(right01, right23)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(right01, right23))};
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    __m256 rows[4];  // lane group l of rows[m] holds sample 4l + m
    for (int m = 0; m < 4; m += 2) {
      const TwoQuads group0(pairs, 2, index + m), group1(pairs, 2, index + m + 4);
      rows[m] = _mm256_insertf128_ps(_mm256_castps128_ps256(group0.first), group1.first, 1);
      rows[m + 1] = _mm256_insertf128_ps(_mm256_castps128_ps256(group0.second), group1.second, 1);
    }
    const __m256d left01 = _mm256_castps_pd(_mm256_unpacklo_ps(rows[0], rows[1]));
    const __m256d left23 = _mm256_castps_pd(_mm256_unpacklo_ps(rows[2], rows[3]));
    const __m256d right01 = _mm256_castps_pd(_mm256_unpackhi_ps(rows[0], rows[1]));
    const __m256d right23 = _mm256_castps_pd(_mm256_unpackhi_ps(rows[2], rows[3]));
    return {_mm256_castpd_ps(_mm256_unpacklo_pd(left01, left23)), _mm256_castpd_ps(_mm256_unpackhi_pd(left01, left23)),
            _mm256_castpd_ps(_mm256_unpacklo_pd(right01, right23)),
            _mm256_castpd_ps(_mm256_unpackhi_pd(right01, right23))};
  }
#endif
  Corners<Vec<T>> corners;
  for (int l = 0; l < lanes<T>; ++l) {
    const T* pair = pairs + 2 * int64_t(index[l]);
    corners.left[l] = pair[0];
    corners.left_step[l] = pair[1];
    corners.right[l] = pair[2];
    corners.right_step[l] = pair[3];
  }
  return corners;
}

// Adds the first `count` samples' shares to their cells of four: the transposition of load_corners, backwards.
template <class T>
inline void add_to_cells(T* cells, const int32_t* index, const CornerGradients<Vec<T>>& grads, int64_t count) {
#if defined(__AVX512F__) || defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    if (count >= lanes<T>) {
      alignas(vector_bytes) T rows[4][lanes<T>];  // lane group l of rows[m] holds sample 4l + m
#if defined(__AVX512F__)
      const __m512d top01 = _mm512_castps_pd(_mm512_unpacklo_ps(grads.top_left, grads.top_right));
      const __m512d top23 = _mm512_castps_pd(_mm512_unpackhi_ps(grads.top_left, grads.top_right));
      const __m512d bottom01 = _mm512_castps_pd(_mm512_unpacklo_ps(grads.bottom_left, grads.bottom_right));
      const __m512d bottom23 = _mm512_castps_pd(_mm512_unpackhi_ps(grads.bottom_left, grads.bottom_right));
      _mm512_store_pd(rows[0], _mm512_unpacklo_pd(top01, bottom01));
      _mm512_store_pd(rows[1], _mm512_unpackhi_pd(top01, bottom01));
      _mm512_store_pd(rows[2], _mm512_unpacklo_pd(top23, bottom23));
      _mm512_store_pd(rows[3], _mm512_unpackhi_pd(top23, bottom23));
#else
      const __m256d top01 = _mm256_castps_pd(_mm256_unpacklo_ps(grads.top_left, grads.top_right));
      const __m256d top23 = _mm256_castps_pd(_mm256_unpackhi_ps(grads.top_left, grads.top_right));
      const __m256d bottom01 = _mm256_castps_pd(_mm256_unpacklo_ps(grads.bottom_left, grads.bottom_right));
      const __m256d bottom23 = _mm256_castps_pd(_mm256_unpackhi_ps(grads.bottom_left, grads.bottom_right));
      _mm256_store_ps(rows[0], _mm256_castpd_ps(_mm256_unpacklo_pd(top01, bottom01)));
      _mm256_store_ps(rows[1], _mm256_castpd_ps(_mm256_unpackhi_pd(top01, bottom01)));
      _mm256_store_ps(rows[2], _mm256_castpd_ps(_mm256_unpacklo_pd(top23, bottom23)));
      _mm256_store_ps(rows[3], _mm256_castpd_ps(_mm256_unpackhi_pd(top23, bottom23)));
#endif
      for (int l = 0; l < lanes<T> / 4; ++l) {
        for (int m = 0; m < 4; ++m) {
          T* cell = cells + 4 * int64_t(index[4 * l + m]);
          _mm_store_ps(cell, _mm_add_ps(_mm_load_ps(cell), _mm_load_ps(rows[m] + 4 * l)));
        }
      }
      return;
    }
  }
#endif
  for (int64_t l = 0; l < count && l < lanes<T>; ++l) {
    T* cell = cells + 4 * int64_t(index[l]);
    cell[0] += grads.top_left[l];
    cell[1] += grads.top_right[l];
    cell[2] += grads.bottom_left[l];
    cell[3] += grads.bottom_right[l];
  }
}

}  // namespace deformwarp::DEFORMWARP_ISA
