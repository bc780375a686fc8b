// The planar backward's samples in float16, two at a time, one 8-byte load each.
#pragma once

#include "cells.h"
#include "element.h"
#include "planar_half_coordinates.h"

namespace deformwarp::cuda::planar {

// Like FloatSlopes. Pairs of float16 numbers belong to pixels 0 and 1, 2 and 3.
class HalfSlopes {
 public:
  using Bits = uint2;
  // A cell: half the value and half the slope by x; half the slope by y and a quarter of the slopes' slope: neighbours
  // may differ by more than a float16.
  static constexpr uint32_t cell_bytes = 8;
  // What values are multiples of.
  static constexpr float unit = 2;

  struct Samples {
    uint2 values, dy, dx;
    uint32_t numbers[4];  // of the cells
    bool touch[4];        // the image
    uint32_t ly[2], lx[2];
  };

  // Such that no finite grad_output gives a |gamma| beyond float16: `bound` is the largest sum of a tap's |weights|.
  template <class Bound>
  static __device__ int arriving_exponent(const Bound& bound) {
    constexpr int largest = 14;  // 2^(largest + 1) is a float16
    const int exponent = int(bit_cast<uint32_t>(bound()) >> 23) - 126;
    return max(0, min(exponent, largest));
  }

  __device__ HalfSlopes(uint32_t cells, const CellPlane& plane, int arriving_exponent)
      : cells_(cells),
        twice_unit_((uint32_t(arriving_exponent + 16) << 10) * 0x10001u),
        pitch_(plane.pitch()),
        outside_rows_(opaque(plane.outside_row() * 0x10001u)),
        outside_columns_(opaque(plane.outside_column() * 0x10001u)) {}

  template <class Pixel>
  static __device__ void build(uint32_t cells, const CellPlane& plane, const Pixel& pixel) {
    for_each_cell(plane, pixel, [&](int number, const Corners<float>& corners) {
      const Cell<float> cell = cell_of(corners);
      shared_store(cells + number * cell_bytes, make_uint2(pack_f16(cell.value * 0.5f, cell.dx * 0.5f),
                                                           pack_f16(cell.dy * 0.5f, cell.dxdy * 0.25f)));
    });
  }

  static __device__ uint32_t tap_word(int n) { return half_tap_word(n); }
  static __device__ __forceinline__ uint32_t pixel_word(int n) { return half_pixel_word(n); }

  __device__ __forceinline__ Samples sample(uint2 offset_y, uint2 offset_x, uint32_t word_y, uint32_t word_x) const {
    Samples s;
    sample_pair(s, 0, offset_y.x, offset_x.x, word_y, word_x, s.values.x, s.dy.x, s.dx.x);
    sample_pair(s, 1, offset_y.y, offset_x.y, word_y, word_x, s.values.y, s.dy.y, s.dx.y);
    return s;
  }

  // (10) at four pixels, of gammas in units of 2^arriving_exponent.
  __device__ __forceinline__ uint2 times(const float (&gamma)[4], uint2 slopes) const {
    const uint32_t first = mul_f16x2(pack_f16(gamma[0], gamma[1]), slopes.x);
    const uint32_t second = mul_f16x2(pack_f16(gamma[2], gamma[3]), slopes.y);
    return make_uint2(mul_f16x2(first, twice_unit_), mul_f16x2(second, twice_unit_));
  }

  static __device__ __forceinline__ float ly(const Samples& s, int k) { return fraction(s.ly[k / 2], k); }
  static __device__ __forceinline__ float lx(const Samples& s, int k) { return fraction(s.lx[k / 2], k); }

 private:
  static __device__ __forceinline__ uint32_t element(uint32_t two, int k) {
    return k % 2 == 0 ? two & 0xffff : two >> 16;
  }
  static __device__ __forceinline__ float fraction(uint32_t two, int k) { return from_f16(uint16_t(element(two, k))); }
  __device__ __forceinline__ uint2 load(uint32_t number) const {
    return shared_load<uint2>(cells_ + number * cell_bytes);
  }

  // (3) to (6)
  __device__ __forceinline__ void sample_pair(Samples& s, int pair, uint32_t offset_y, uint32_t offset_x,
                                              uint32_t word_y, uint32_t word_x, uint32_t& values, uint32_t& dy,
                                              uint32_t& dx) const {
    const HalfCoordinates y = locate_halves(offset_y, word_y, outside_rows_);
    const HalfCoordinates x = locate_halves(offset_x, word_x, outside_columns_, pair * 0x00020002u + 0x00010000u);
    s.ly[pair] = y.fractions;
    s.lx[pair] = x.fractions;
    const uint32_t numbers = y.cells * pitch_ + x.cells;  // less than 2^16: both products at once
#pragma unroll
    for (int k = 0; k < 2; ++k) s.numbers[pair * 2 + k] = opaque(element(numbers, k));
    // Not 0 where a cell touches the image.
    const uint32_t inside = add_min_u16x2(outside_rows_ - y.cells, 0, outside_columns_ - x.cells);
    s.touch[pair * 2] = opaque(inside & 0xffff) != 0;
    s.touch[pair * 2 + 1] = inside > 0xffff;
    const uint2 first = load(s.numbers[pair * 2]), second = load(s.numbers[pair * 2 + 1]);
    const uint32_t value = permute_bytes(first.x, second.x, 0x5410), slope_x = permute_bytes(first.x, second.x, 0x7632);
    const uint32_t slope_y = permute_bytes(first.y, second.y, 0x5410), both = permute_bytes(first.y, second.y, 0x7632);
    dy = fma_f16x2(add_f16x2(x.fractions, x.fractions), both, slope_y);
    dx = fma_f16x2(add_f16x2(y.fractions, y.fractions), both, slope_x);
    values = fma_f16x2(y.fractions, dy, fma_f16x2(x.fractions, slope_x, value));
  }

  const uint32_t cells_;
  const uint32_t twice_unit_;  // 2^(arriving_exponent + 1), twice: slopes are halves
  const uint32_t pitch_, outside_rows_, outside_columns_;
};

}  // namespace deformwarp::cuda::planar
