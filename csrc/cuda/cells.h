// One channel's plane in shared memory as cells, docs/mathematics.md (3), and where samples lie in it.
#pragma once

#include "cell_plane.h"
#include "ptx.h"

namespace deformwarp::cuda {

// A column of pixels with zeros around it. Pixel: float pixel(int index), of [H, W].
template <class Pixel>
struct Column {
  const Pixel& pixel;
  int height, width, column;

  __device__ float operator[](int row) const {
    const bool inside = uint32_t(row) < uint32_t(height) && uint32_t(column) < uint32_t(width);
    return inside ? pixel(row * width + column) : 0.0f;
  }
};

// Calls store(cell's number, Corners<float>) for every cell, by all threads of the block. Each goes down a strip of one
// column: every pixel is read twice, not four times.
template <class Pixel, class Store>
__device__ void for_each_cell(const CellPlane& plane, const Pixel& pixel, const Store& store) {
  const int pitch = plane.pitch(), rows = plane.rows();
  const int strips = max(1, int(blockDim.x) / pitch);
  const int strip_rows = (rows + strips - 1) / strips;
  for (int item = threadIdx.x; item < strips * pitch; item += blockDim.x) {
    const int strip = item / pitch, column = item - strip * pitch;
    const Column<Pixel> left{pixel, plane.height, plane.width, column - 1};
    const Column<Pixel> right{pixel, plane.height, plane.width, column};
    const int begin = strip * strip_rows, end = min(begin + strip_rows, rows);
    float upper_left = left[begin - 1], upper_right = right[begin - 1];
    for (int row = begin; row < end; ++row) {
      const float lower_left = left[row], lower_right = right[row];
      store(row * pitch + column,
            Corners<float>{upper_left, lower_left - upper_left, upper_right, lower_right - upper_right});
      upper_left = lower_left;
      upper_right = lower_right;
    }
  }
}

constexpr uint32_t cell_bytes = sizeof(Cell<float>);

template <class Pixel>
__device__ void build_cells(uint32_t cells, const CellPlane& plane, const Pixel& pixel) {
  for_each_cell(plane, pixel, [&](int number, const Corners<float>& corners) {
    const Cell<float> cell = cell_of(corners);
    shared_store(cells + number * cell_bytes, make_float4(cell.value, cell.dx, cell.dy, cell.dxdy));
  });
}

__device__ __forceinline__ Cell<float> load_cell(uint32_t address) {
  const float4 words = shared_load<float4>(address);
  return {words.x, words.y, words.z, words.w};
}

// Adding it to a float32 of less than 2^22 leaves an integer in the low bits. Beyond, and for NaN, what stands there is
// an integer all the same, and far from those within.
constexpr float integer_shift = 12582912.0f;  // 1.5 * 2^23
constexpr uint32_t integer_shift_bits = 0x4b400000u;

// (3) along one axis: row or column of the cell, and the fraction, which is any number of [0, 1] outside the image.
struct Coordinate {
  uint32_t cell;
  float fraction;
};

// The coordinate of `offset` + n, for an integer n whose base_of() comes as `base`. Below 0 integers are large as
// unsigned ones: both sides of the image are outside by one comparison. `extra` is a further summand of the integer.
__device__ constexpr uint32_t base_of(int n) { return uint32_t(n + 1) - integer_shift_bits; }
__device__ __forceinline__ Coordinate locate(float offset, uint32_t base, uint32_t outside, int extra = 0) {
  const float shift = integer_shift + float(extra);
  const float shifted = add_round_down(offset, shift);
  return {add_min(bit_cast<uint32_t>(shifted), base, outside), subtract_saturate(offset, shifted - shift)};
}

}  // namespace deformwarp::cuda
