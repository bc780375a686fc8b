// From offsets to positions in a padded plane, a tile of output pixels at a time.
#pragma once

#include <vector>

#include "../problem.h"
#include "plane.h"

namespace deformwarp::DEFORMWARP_ISA {

// One kernel tap of one branch, for one sample and one offset group.
template <class Stored>
struct Tap {
  Arithmetic<Stored> shift_y, shift_x;       // dilation * tap - padding
  const Stored *offset_y, *offset_x, *mask;  // [Ho * Wo]; mask may be null
};

// All D * Kh * Kw taps that offset group `group` of sample `sample` is read through.
template <class Stored>
void list_taps(const Problem& problem, int64_t sample, int64_t group, std::vector<Tap<Stored>>& taps) {
  taps.clear();
  for (int64_t d = 0; d < problem.branch_count; ++d) {
    const Branch& branch = problem.branches[d];
    const Stored* offset = static_cast<const Stored*>(branch.offset) + sample * branch.offset_stride;
    const Stored* mask = static_cast<const Stored*>(branch.mask);
    for (int64_t k = 0; k < problem.taps(); ++k) {
      const int64_t plane = (group * problem.taps() + k) * problem.out_plane();
      taps.push_back({Arithmetic<Stored>(k / problem.kernel_w * branch.dilation_h - branch.padding_h),
                      Arithmetic<Stored>(k % problem.kernel_w * branch.dilation_w - branch.padding_w),
                      offset + 2 * plane, offset + 2 * plane + problem.out_plane(),
                      mask == nullptr ? nullptr : mask + sample * branch.mask_stride + plane});
    }
  }
}

// The offsets of a tap that is sampled a little later. The hardware prefetcher gives up on hundreds of streams: each
// loop over a tap's vectors asks for one cache line of either stream as it goes, so that memory is never idle.
template <class Stored>
struct Ahead {
  static constexpr int64_t taps = 4;
  static constexpr int second_level = 2;  // the first-level cache is full of what the taps between need

  const Stored *offset_y, *offset_x;

  // Past the last tap come the first ones, on the next tile.
  Ahead(const std::vector<Tap<Stored>>& list, int64_t tap, int64_t pixel, int64_t tile_pixels) {
    const int64_t count = int64_t(list.size());
    for (tap += taps; tap >= count; tap -= count) pixel += tile_pixels;
    offset_y = list[tap].offset_y + pixel;
    offset_x = list[tap].offset_x + pixel;
  }

  void fetch(int64_t i) const {
    __builtin_prefetch(offset_y + i, 0, second_level);
    __builtin_prefetch(offset_x + i, 0, second_level);
  }
};

// Where one input channel's factors stand in the caller's weight [D, C_out, C / groups, Kh, Kw]. `row` counts the
// output channels of the channel's group. Steps, because dividing for every factor would take longer than using it.
struct ChannelWeights {
  int64_t origin, branch_step, row_step;

  ChannelWeights(const Problem& problem, int64_t channel)
      : origin((channel / problem.group_channels() * problem.group_out_channels() * problem.group_channels() +
                channel % problem.group_channels()) *
               problem.taps()),
        branch_step(problem.out_channels * problem.group_channels() * problem.taps()),
        row_step(problem.group_channels() * problem.taps()) {}

  int64_t at(int64_t branch, int64_t k, int64_t row) const {
    return origin + branch * branch_step + row * row_step + k;
  }
};

// Calls visit(tap, branch, k) for all D * Kh * Kw taps.
template <class Visit>
void for_each_tap(const Problem& problem, const Visit& visit) {
  for (int64_t branch = 0, tap = 0; branch < problem.branch_count; ++branch) {
    for (int64_t k = 0; k < problem.taps(); ++k, ++tap) visit(tap, branch, k);
  }
}

// Where the windows of all output pixels begin in the input: stride * pixel.
template <class T>
class Windows {
 public:
  explicit Windows(const Problem& problem)
      : y_(make_scratch<T>(padded<T>(problem.out_plane()))), x_(make_scratch<T>(padded<T>(problem.out_plane()))) {
    for (int64_t row = 0, i = 0; row < problem.out_height; ++row) {
      for (int64_t column = 0; column < problem.out_width; ++column, ++i) {
        y_[i] = T(row * problem.stride_h);
        x_[i] = T(column * problem.stride_w);
      }
    }
  }

  const T* y() const { return y_.get(); }
  const T* x() const { return x_.get(); }

 private:
  Scratch<T> y_, x_;  // [Ho * Wo]
};

// Consecutive output pixels that are worked on together.
struct Tile {
  int64_t begin, count;
};

// Cells and fractions of one tap's samples. Lanes past the tile's count hold a valid cell.
template <class T, int Pixels>
struct Samples {
  alignas(64) int32_t cell[Pixels];
  alignas(64) T ly[Pixels];
  alignas(64) T lx[Pixels];
};

// docs/mathematics.md (2), (3): positions, clamped into the plane's margin, split into cell and fraction. The
// integer part of a position is summed before the offset is added, so that it is rounded once, as in torchvision.
template <class Stored, int Pixels>
inline void locate(const Tap<Stored>& tap, const Windows<Arithmetic<Stored>>& windows, Tile tile, PlaneShape plane,
                   Samples<Arithmetic<Stored>, Pixels>& samples) {
  using T = Arithmetic<Stored>;
  const T *window_y = windows.y() + tile.begin, *window_x = windows.x() + tile.begin;
  const Stored *offset_y = tap.offset_y + tile.begin, *offset_x = tap.offset_x + tile.begin;
  const T shift_y = tap.shift_y, shift_x = tap.shift_x, height = T(plane.height), width = T(plane.width);
  const int32_t pitch = int32_t(plane.pitch()), origin = int32_t(plane.origin());
  for_each_vector<T>(tile.count, [&](int64_t i, auto count) {
    const Vec<T> y = (load(window_y + i, count) + shift_y) + load_widened(offset_y + i, count);
    const Vec<T> x = (load(window_x + i, count) + shift_x) + load_widened(offset_x + i, count);
    const Parts<T> row = split<T>(clamp(y, T(-2), height)), column = split<T>(clamp(x, T(-2), width));
    store(samples.ly + i, row.fraction);
    store(samples.lx + i, column.fraction);
    const IndexVec<T> cell = times_pitch<T>(row.floor, pitch) + column.floor + origin;
    std::memcpy(samples.cell + i, &cell, sizeof(cell));
  });
}

}  // namespace deformwarp::DEFORMWARP_ISA
