// From offsets to samples, one thread and one output pixel at a time.
#pragma once

#include <cmath>

#include "../bilinear.h"
#include "element.h"
#include "general_geometry.h"

namespace deformwarp::cuda::general {

// One of the N * Ho * Wo output pixels.
template <class T>
struct Pixel {
  bool exists;
  int64_t sample, index;  // index in [Ho * Wo]
  T window_y, window_x;   // stride * (row, column)
};

// Division of 64-bit numbers takes a hundred instructions, and they are hardly ever larger than 32 bits.
__device__ __forceinline__ int64_t quotient(int64_t a, int64_t b) {
  if (((a | b) >> 32) == 0) return int64_t(uint32_t(a) / uint32_t(b));
  return a / b;
}

template <class T>
__device__ __forceinline__ Pixel<T> pixel_at(const Geometry& g, int64_t number) {
  if (number >= g.pixels()) return {false, 0, 0, T(0), T(0)};
  const int64_t sample = quotient(number, g.out_plane), index = number - sample * g.out_plane;
  const int64_t row = quotient(index, g.out_width), column = index - row * g.out_width;
  return {true, sample, index, T(row * g.stride_h), T(column * g.stride_w)};
}

// One tap of one of the launch's branches.
struct Tap {
  int branch, row, column;  // row and column in [Kh, Kw]

  __device__ __forceinline__ int index(const Geometry& g) const { return row * g.kernel_w + column; }
};

__device__ __forceinline__ Tap tap_at(const Geometry& g, int number) {
  const int branch = number / g.taps(), k = number - branch * g.taps();
  return {branch, k / g.kernel_w, k % g.kernel_w};
}

// Where a sample lies: formula (3). The four pixels of its cell may lie in the margin, which is not in memory.
template <class T>
struct Cell {
  int corner;                     // of its top left pixel, in [H, W] continued
  bool top, bottom, left, right;  // which of its rows and columns are in the image
  T ly, lx;
};

template <class T>
__device__ __forceinline__ T clamped(T position, T upper) {
  const T above = position > T(-2) ? position : T(-2);  // false for NaN
  return above < upper ? above : upper;
}

template <class T>
__device__ __forceinline__ Cell<T> cell_at(const Geometry& g, T y, T x) {
  const T inside_y = clamped(y, T(g.height)), inside_x = clamped(x, T(g.width));
  const T floor_y = std::floor(inside_y), floor_x = std::floor(inside_x);
  const int t = int(floor_y), l = int(floor_x);
  return {t * g.width + l,
          unsigned(t) < unsigned(g.height),
          unsigned(t + 1) < unsigned(g.height),
          unsigned(l) < unsigned(g.width),
          unsigned(l + 1) < unsigned(g.width),
          inside_y - floor_y,
          inside_x - floor_x};
}

// Index of a tap's plane in [N, G, Kh*Kw], the layout of masks and, twice over, of offsets; without the sample.
__device__ __forceinline__ int64_t tap_plane(const Geometry& g, int offset_group, const Tap& tap) {
  return int64_t(offset_group) * g.taps() + tap.index(g);
}

// Position (2): the integers are summed before the offset is added, so that it is rounded once, as in torchvision.
template <class Stored, class T = Arithmetic<Stored>>
__device__ __forceinline__ Cell<T> locate(const Geometry& g, const Pixel<T>& pixel, const Tap& tap, int offset_group) {
  const BranchGeometry& branch = g.branch[tap.branch];
  const T shift_y = T(tap.row * branch.dilation_h - branch.padding_h);
  const T shift_x = T(tap.column * branch.dilation_w - branch.padding_w);
  const Stored* offset = static_cast<const Stored*>(branch.offset) + pixel.sample * branch.offset_stride +
                         2 * tap_plane(g, offset_group, tap) * g.out_plane + pixel.index;
  return cell_at(g, (pixel.window_y + shift_y) + load_element(offset),
                 (pixel.window_x + shift_x) + load_element(offset + g.out_plane));
}

template <class Stored, class T = Arithmetic<Stored>>
__device__ __forceinline__ T mask_at(const Geometry& g, const Pixel<T>& pixel, const Tap& tap, int offset_group) {
  const BranchGeometry& branch = g.branch[tap.branch];
  if (branch.mask == nullptr) return T(1);
  return load_element(static_cast<const Stored*>(branch.mask) + pixel.sample * branch.mask_stride +
                      tap_plane(g, offset_group, tap) * g.out_plane + pixel.index);
}

// The four pixels of a cell, zero in the margin.
template <class Stored, class T = Arithmetic<Stored>>
__device__ __forceinline__ Corners<T> corners_at(const Geometry& g, const Stored* plane, const Cell<T>& cell) {
  const Stored* at = plane + cell.corner;
  const T top_left = cell.top && cell.left ? load_element(at) : T(0);
  const T top_right = cell.top && cell.right ? load_element(at + 1) : T(0);
  const T bottom_left = cell.bottom && cell.left ? load_element(at + g.width) : T(0);
  const T bottom_right = cell.bottom && cell.right ? load_element(at + g.width + 1) : T(0);
  return {top_left, bottom_left - top_left, top_right, bottom_right - top_right};
}

template <class Stored, class T = Arithmetic<Stored>>
__device__ __forceinline__ const Stored* input_plane(const Geometry& g, const Pixel<T>& pixel, int channel) {
  return static_cast<const Stored*>(g.input) + (pixel.sample * g.channels + channel) * g.plane();
}

// The masked samples m * v of consecutive channels at one pixel and tap. Channels of one offset group share a cell.
template <class Stored>
class Sampler {
  using T = Arithmetic<Stored>;

 public:
  __device__ __forceinline__ Sampler(const Geometry& g, const Pixel<T>& pixel, const Tap& tap, int first_channel)
      : g_(g), pixel_(pixel), tap_(tap), channel_(first_channel), group_(first_channel / g.offset_group_channels) {
    next_group_at_ = (group_ + 1) * g.offset_group_channels;
    if (pixel.exists && first_channel < g.channels) enter_group();
  }

  // The sample of the next channel; 0 where the pixel or, from `last` on, the channel does not exist.
  __device__ __forceinline__ T next(int last) {
    const int channel = channel_++;
    if (!pixel_.exists || channel >= last) return T(0);
    if (channel == next_group_at_) {
      ++group_;
      next_group_at_ += g_.offset_group_channels;
      enter_group();
    }
    const Corners<T> corners = corners_at(g_, input_plane<Stored>(g_, pixel_, channel), cell_);
    return mask_ * bilinear_value(corners, cell_.ly, cell_.lx);
  }

 private:
  __device__ __forceinline__ void enter_group() {
    cell_ = locate<Stored>(g_, pixel_, tap_, group_);
    mask_ = mask_at<Stored>(g_, pixel_, tap_, group_);
  }

  const Geometry& g_;
  const Pixel<T>& pixel_;
  const Tap tap_;
  int channel_, group_, next_group_at_;
  Cell<T> cell_;
  T mask_;
};

// Offset in the weight [D, C_out, C/groups, Kh, Kw] of output channel 0's tap; channels count within their groups.
__device__ __forceinline__ int64_t weight_at(const Geometry& g, const Tap& tap, int weight_group, int out_channel,
                                             int channel) {
  const int64_t row = int64_t(g.first_branch + tap.branch) * g.out_channels +
                      int64_t(weight_group) * g.group_out_channels + out_channel;
  return (row * g.group_channels + channel) * g.taps() + tap.index(g);
}

}  // namespace deformwarp::cuda::general
