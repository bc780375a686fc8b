// Sums of products in registers: the matrix product of two blocks in shared memory, a tile a thread.
#pragma once

#include "ptx.h"

namespace deformwarp::cuda::general {

// `count` consecutive elements, in accesses as wide as they allow.
template <int count>
__device__ __forceinline__ void load_row(uint32_t from, float (&to)[count]) {
  if constexpr (count % 4 == 0) {
#pragma unroll
    for (int i = 0; i < count; i += 4) {
      const float4 four = shared_load<float4>(from + 4 * i);
      to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
    }
  } else if constexpr (count == 2) {
    const float2 two = shared_load<float2>(from);
    to[0] = two.x, to[1] = two.y;
  } else {
    static_assert(count == 1);
    to[0] = shared_load<float>(from);
  }
}

template <int count>
__device__ __forceinline__ void load_row(uint32_t from, double (&to)[count]) {
  if constexpr (count % 2 == 0) {
#pragma unroll
    for (int i = 0; i < count; i += 2) {
      const double2 two = shared_load<double2>(from + 8 * i);
      to[i] = two.x, to[i + 1] = two.y;
    }
  } else {
    static_assert(count == 1);
    to[0] = shared_load<double>(from);
  }
}

template <int count>
__device__ __forceinline__ void store_row(uint32_t to, const float (&from)[count]) {
  static_assert(count % 4 == 0);
#pragma unroll
  for (int i = 0; i < count; i += 4) {
    shared_store(to + 4 * i, float4{from[i], from[i + 1], from[i + 2], from[i + 3]});
  }
}

template <int count>
__device__ __forceinline__ void store_row(uint32_t to, const double (&from)[count]) {
  static_assert(count % 2 == 0);
#pragma unroll
  for (int i = 0; i < count; i += 2) shared_store(to + 8 * i, double2{from[i], from[i + 1]});
}

// sums += rows^T * columns over `depth`: rows [depth, ...] and columns [depth, ...] begin at the thread's own.
template <class T, int row_count, int column_count>
__device__ __forceinline__ void add_products(uint32_t rows, int row_pitch, uint32_t columns, int column_pitch,
                                             int depth, T (&sums)[row_count][column_count]) {
#pragma unroll 4
  for (int k = 0; k < depth; ++k) {
    T row[row_count], column[column_count];
    load_row(rows + k * row_pitch * int(sizeof(T)), row);
    load_row(columns + k * column_pitch * int(sizeof(T)), column);
#pragma unroll
    for (int r = 0; r < row_count; ++r) {
#pragma unroll
      for (int c = 0; c < column_count; ++c) sums[r][c] += row[r] * column[c];
    }
  }
}

template <class T, int row_count, int column_count>
__device__ __forceinline__ void set_to_zero(T (&sums)[row_count][column_count]) {
#pragma unroll
  for (int r = 0; r < row_count; ++r) {
#pragma unroll
    for (int c = 0; c < column_count; ++c) sums[r][c] = T(0);
  }
}

}  // namespace deformwarp::cuda::general
