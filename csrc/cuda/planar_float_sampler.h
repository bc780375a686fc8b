// The forward's samples in float32: of float32, as the sum of two TF32 numbers, and of bfloat16.
#pragma once

#include "cells.h"
#include "factors.h"
#include "quads.h"

namespace deformwarp::cuda::planar {

// A sampler is what the forward's kernel is a template of. T is what tensors hold.
template <class T>
struct FloatSampler {
  using Stored = T;
  using Bits = typename Quad<T>::Bits;
  using Samples = Factors<T, 4>;
  using Weights = Factors<T, 2>;
  static constexpr uint32_t cell_bytes = sizeof(Cell<float>);

  uint32_t cells, pitch, outside_row, outside_column;

  __device__ FloatSampler(uint32_t cells, const CellPlane& plane)
      : cells(cells), pitch(plane.pitch()), outside_row(plane.outside_row()), outside_column(plane.outside_column()) {}

  template <class Pixel>
  static __device__ void build(uint32_t cells, const CellPlane& plane, const Pixel& pixel) {
    build_cells(cells, plane, pixel);
  }

  // The integers of (2), such that those of a tap and of a pixel can be added.
  static __device__ uint32_t tap_word(int shift) { return base_of(shift); }
  static __device__ uint32_t pixel_word(int n) { return n; }

  // Four pixels in a row, 0 and 1 to the two row halves of a first factor, 2 and 3 to those of another.
  __device__ __forceinline__ void sample(Samples (&samples)[2], int slot, Bits offset_y, Bits offset_x, uint32_t base_y,
                                         uint32_t base_x) const {
    const float4 fy = Quad<T>::widen(offset_y), fx = Quad<T>::widen(offset_x);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Coordinate y = locate(element_of(fy, i), base_y, outside_row);
      const Coordinate x = locate(element_of(fx, i), base_x, outside_column, i);
      const Cell<float> cell = load_cell(cells + (y.cell * pitch + x.cell) * cell_bytes);
      samples[i / 2].set(slot * 2 + i % 2, cell_value(cell, y.fraction, x.fraction));
    }
  }

  static __device__ __forceinline__ void add(float (&sums)[4], const Samples& samples, const Weights& weights) {
    add_product<T>(sums, samples, weights);
  }
};

}  // namespace deformwarp::cuda::planar
