// The planar backward's samples in float32: of float32 and of bfloat16.
#pragma once

#include "cells.h"
#include "quads.h"

namespace deformwarp::cuda::planar {

// Slopes are what the planar backward is a template of: samples with their derivatives. T is what tensors hold.
template <class T>
class FloatSlopes {
 public:
  using Bits = typename Quad<T>::Bits;
  static constexpr uint32_t cell_bytes = sizeof(Cell<float>);
  // What values are multiples of.
  static constexpr float unit = 1;

  // Four in a row, at one tap.
  struct Samples {
    float values[4], dy[4], dx[4];
    uint32_t numbers[4];  // of the cells
    bool touch[4];        // the image
    float ly[4], lx[4];
  };

  // In units of 2^arriving_exponent, what arrives fits into the type that slopes are multiplied in.
  template <class Bound>
  static __device__ int arriving_exponent(const Bound&) {
    return 0;
  }

  __device__ FloatSlopes(uint32_t cells, const CellPlane& plane, int)
      : cells_(cells),
        pitch_(plane.pitch()),
        outside_row_(plane.outside_row()),
        outside_column_(plane.outside_column()) {}

  template <class Pixel>
  static __device__ void build(uint32_t cells, const CellPlane& plane, const Pixel& pixel) {
    build_cells(cells, plane, pixel);
  }

  // The integers of (2), such that those of a tap and of a pixel can be added.
  static __device__ uint32_t tap_word(int n) { return sizeof(T) == 4 ? n : base_of(n); }
  static __device__ __forceinline__ uint32_t pixel_word(int n) { return n; }

  // (3) to (6)
  __device__ __forceinline__ Samples sample(Bits offset_y, Bits offset_x, uint32_t word_y, uint32_t word_x) const {
    const float4 four_y = Quad<T>::widen(offset_y), four_x = Quad<T>::widen(offset_x);
    Samples s;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const Coordinate y = locate_sample(element_of(four_y, k), word_y, 0, outside_row_);
      const Coordinate x = locate_sample(element_of(four_x, k), word_x, k, outside_column_);
      s.numbers[k] = opaque(y.cell * pitch_ + x.cell);
      s.touch[k] = y.cell != outside_row_ && x.cell != outside_column_;
      s.ly[k] = y.fraction;
      s.lx[k] = x.fraction;
      const Cell<float> cell = load_cell(cells_ + s.numbers[k] * cell_bytes);
      s.dy[k] = cell_dy(cell, s.lx[k]);
      s.dx[k] = cell_dx(cell, s.ly[k]);
      s.values[k] = cell_value(cell, s.ly[k], s.lx[k]);
    }
    return s;
  }

  // (10) at four pixels
  __device__ __forceinline__ Bits times(const float (&a)[4], const float (&b)[4]) const {
    return Quad<T>::narrow(make_float4(a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]));
  }

  static __device__ __forceinline__ float ly(const Samples& s, int k) { return s.ly[k]; }
  static __device__ __forceinline__ float lx(const Samples& s, int k) { return s.lx[k]; }

 private:
  // (2) and (3) at the integer in `word` + `extra`. A float32 position is rounded where (2) rounds it. What a
  // bfloat16's offset adds to an integer is nearly always exact, and taken as it is.
  static __device__ __forceinline__ Coordinate locate_sample(float offset, uint32_t word, int extra, uint32_t outside) {
    if constexpr (sizeof(T) == 4) {
      return locate((float(int(word)) + float(extra)) + offset, base_of(0), outside);
    } else {
      return locate(offset, word, outside, extra);
    }
  }

  const uint32_t cells_, pitch_, outside_row_, outside_column_;
};

}  // namespace deformwarp::cuda::planar
