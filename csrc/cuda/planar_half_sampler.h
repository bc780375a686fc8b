// The forward's samples in float16, two at a time, one 8-byte load each.
#pragma once

#include "cells.h"
#include "element.h"
#include "planar_half_coordinates.h"

namespace deformwarp::cuda::planar {

// What the planar forward is a template of, like FloatSampler.
struct HalfSampler {
  using Stored = Half;
  using Bits = uint2;

  // The rows above and below a sample have inner indices of their own in the product, with the same weight: the tensor
  // cores do the last addition of (4). A factor is (share of the row above, share of the row below).
  struct Samples {
    uint32_t rows[4];
  };
  struct Weights {
    uint32_t pairs[2];
    __device__ __forceinline__ void set(int slot, float value) { pairs[slot] = to_f16(value) * 0x10001u; }
  };

  // A cell: (v(y, x), v(y + 1, x)), and half of what v(y, x + 1), v(y + 1, x + 1) are more: that never overflows.
  static constexpr uint32_t cell_bytes = 8;

  uint32_t cells, pitch, outside_rows, outside_columns;
  uint32_t signs;  // (-1, 1). A constant that the assembler knows it makes anew for every use: it shall not know.

  __device__ HalfSampler(uint32_t cells, const CellPlane& plane)
      : cells(cells),
        pitch(plane.pitch()),
        outside_rows(plane.outside_row() * 0x10001u),
        outside_columns(plane.outside_column() * 0x10001u),
        signs(ballot(true) & 0x3c00bc00u) {}

  template <class Pixel>
  static __device__ void build(uint32_t cells, const CellPlane& plane, const Pixel& pixel) {
    for_each_cell(plane, pixel, [&](int number, const Corners<float>& c) {
      const float lower_left = c.left + c.left_step, lower_right = c.right + c.right_step;
      shared_store(cells + number * cell_bytes,
                   make_uint2(pack_f16(c.left, lower_left),
                              pack_f16((c.right - c.left) * 0.5f, (lower_right - lower_left) * 0.5f)));
    });
  }

  static __device__ uint32_t tap_word(int n) { return half_tap_word(n); }
  static __device__ uint32_t pixel_word(int n) { return half_pixel_word(n); }

  // (4), without its last addition.
  __device__ __forceinline__ uint32_t rows_at(uint32_t number, uint32_t ly, uint32_t twice_lx) const {
    const uint2 cell = shared_load<uint2>(cells + number * cell_bytes);
    const uint32_t shares = fma_f16x2(ly, signs, 0x00003c00u);  // (1 - ly, ly)
    return mul_f16x2(fma_f16x2(cell.y, twice_lx, cell.x), shares);
  }

  // Four pixels in a row, 0 and 1 to the two row halves of a first factor, 2 and 3 to those of another.
  __device__ __forceinline__ void sample(Samples (&samples)[2], int slot, Bits offset_y, Bits offset_x, uint32_t base_y,
                                         uint32_t base_x) const {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const HalfCoordinates y = locate_halves_on_either_side(pair == 0 ? offset_y.x : offset_y.y, base_y, outside_rows);
      const HalfCoordinates x = locate_halves_on_either_side(pair == 0 ? offset_x.x : offset_x.y, base_x,
                                                             outside_columns, pair * 0x00020002u + 0x00010000u);
      // Numbers of less than 2^16: both products at once.
      const uint32_t numbers = y.cells * pitch + x.cells;
      const uint32_t twice_lx = add_f16x2(x.fractions, x.fractions);
      samples[pair].rows[slot * 2] = rows_at(numbers & 0xffff, broadcast_low(y.fractions), broadcast_low(twice_lx));
      samples[pair].rows[slot * 2 + 1] = rows_at(numbers >> 16, broadcast_high(y.fractions), broadcast_high(twice_lx));
    }
  }

  static __device__ __forceinline__ void add(float (&sums)[4], const Samples& samples, const Weights& weights) {
    mma_f16(sums, samples.rows, weights.pairs);
  }
};

}  // namespace deformwarp::cuda::planar
