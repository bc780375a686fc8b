// The two small matrix products of a tile, with the sums held in registers.
#pragma once

#include "simd.h"

#define UNROLL _Pragma("GCC unroll 16")

namespace deformwarp::DEFORMWARP_ISA {

// A matrix read element by element: a(r, k) = data[r * row + k * depth].
template <class T>
struct Factors {
  const T* data;
  int64_t row, depth;
};

// Rows that share one pass over the columns: as many sums as the registers hold beside the operands.
constexpr int block_rows = vector_registers == 32 ? 9 : 5;
constexpr int block_vectors = 2;

// Every loop over sums is unrolled: one that is not would keep the whole array in memory.
template <class T, int Rows, int Vectors, bool partial>
inline void multiply_block(Factors<T> a, const T* b, int64_t b_stride, int64_t depth, T* out, int64_t out_stride,
                           int64_t count, bool accumulate) {
  const auto read = [count](const T* from) { return partial ? load(from, count) : load(from); };
  Vec<T> sums[Rows][Vectors];
  UNROLL for (int r = 0; r < Rows; ++r) {
    UNROLL for (int v = 0; v < Vectors; ++v) {
      sums[r][v] = accumulate ? read(out + r * out_stride + v * lanes<T>) : Vec<T>{};
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vec<T> column[Vectors];
    UNROLL for (int v = 0; v < Vectors; ++v) column[v] = read(b + k * b_stride + v * lanes<T>);
    UNROLL for (int r = 0; r < Rows; ++r) {
      const Vec<T> factor = broadcast(a.data[r * a.row + k * a.depth]);
      UNROLL for (int v = 0; v < Vectors; ++v) sums[r][v] += factor * column[v];
    }
  }
  UNROLL for (int r = 0; r < Rows; ++r) {
    UNROLL for (int v = 0; v < Vectors; ++v) {
      T* to = out + r * out_stride + v * lanes<T>;
      partial ? store(to, sums[r][v], count) : store(to, sums[r][v]);
    }
  }
}

template <class T, int Rows>
inline void multiply_rows(Factors<T> a, const T* b, int64_t b_stride, int64_t depth, T* out, int64_t out_stride,
                          int64_t columns, bool accumulate) {
  constexpr int64_t wide = block_vectors * lanes<T>;
  int64_t p = 0;
  for (; p + wide <= columns; p += wide) {
    multiply_block<T, Rows, block_vectors, false>(a, b + p, b_stride, depth, out + p, out_stride, wide, accumulate);
  }
  for (; p < columns; p += lanes<T>) {
    multiply_block<T, Rows, 1, true>(a, b + p, b_stride, depth, out + p, out_stride, columns - p, accumulate);
  }
}

// out[r][p] (+)= sum over k of a(r, k) * b[k][p]
template <class T, int Rows = block_rows>
inline void multiply(Factors<T> a, const T* b, int64_t b_stride, int64_t depth, T* out, int64_t out_stride,
                     int64_t rows, int64_t columns, bool accumulate) {
  for (; rows >= Rows; rows -= Rows, a.data += Rows * a.row, out += Rows * out_stride) {
    multiply_rows<T, Rows>(a, b, b_stride, depth, out, out_stride, columns, accumulate);
  }
  if constexpr (Rows > 1) {
    if (rows > 0) multiply<T, Rows - 1>(a, b, b_stride, depth, out, out_stride, rows, columns, accumulate);
  }
}

constexpr int correlate_block = vector_registers == 32 ? 4 : 3;

template <class T, int Rows, int Columns>
inline void correlate_tile(const T* a, int64_t a_stride, const T* b, int64_t b_stride, int64_t length, Vec<T>* out,
                           int64_t out_stride) {
  Vec<T> sums[Rows][Columns];
  UNROLL for (int r = 0; r < Rows; ++r) {
    UNROLL for (int c = 0; c < Columns; ++c) sums[r][c] = out[r * out_stride + c];
  }
  const auto add = [&](int64_t p, auto read) {
    Vec<T> right[Columns];
    UNROLL for (int c = 0; c < Columns; ++c) right[c] = read(b + c * b_stride + p);
    UNROLL for (int r = 0; r < Rows; ++r) {
      const Vec<T> left = read(a + r * a_stride + p);
      UNROLL for (int c = 0; c < Columns; ++c) sums[r][c] += left * right[c];
    }
  };
  int64_t p = 0;
  for (; p + lanes<T> <= length; p += lanes<T>) add(p, [](const T* from) { return load(from); });
  if (p < length) add(p, [&](const T* from) { return load(from, length - p); });
  UNROLL for (int r = 0; r < Rows; ++r) {
    UNROLL for (int c = 0; c < Columns; ++c) out[r * out_stride + c] = sums[r][c];
  }
}

template <class T, int Rows, int Columns = correlate_block>
inline void correlate_rows(const T* a, int64_t a_stride, const T* b, int64_t b_stride, int64_t length, Vec<T>* out,
                           int64_t out_stride, int64_t columns) {
  for (; columns >= Columns; columns -= Columns, b += Columns * b_stride, out += Columns) {
    correlate_tile<T, Rows, Columns>(a, a_stride, b, b_stride, length, out, out_stride);
  }
  if constexpr (Columns > 1) {
    if (columns > 0) correlate_rows<T, Rows, Columns - 1>(a, a_stride, b, b_stride, length, out, out_stride, columns);
  }
}

// out[r][c] += a[r][p] * b[c][p] over p, lane by lane: the lanes are added up once, at the very end.
template <class T, int Rows = correlate_block>
inline void correlate(const T* a, int64_t a_stride, const T* b, int64_t b_stride, int64_t length, Vec<T>* out,
                      int64_t out_stride, int64_t rows, int64_t columns) {
  for (; rows >= Rows; rows -= Rows, a += Rows * a_stride, out += Rows * out_stride) {
    correlate_rows<T, Rows>(a, a_stride, b, b_stride, length, out, out_stride, columns);
  }
  if constexpr (Rows > 1) {
    if (rows > 0) correlate<T, Rows - 1>(a, a_stride, b, b_stride, length, out, out_stride, rows, columns);
  }
}

}  // namespace deformwarp::DEFORMWARP_ISA

#undef UNROLL
