// One sample with the channels last, and a margin of zeros as in plane.h: where channels share offsets, a position
// is computed once and a vector of channels is read at each of its four pixels.
#pragma once

#include "plane.h"

namespace deformwarp::DEFORMWARP_ISA {

template <class T>
class SharedImage {
 public:
  SharedImage(PlaneShape shape, int64_t channels)
      : shape_(shape), channels_(channels), size_(shape.pixels() * channels), data_(make_scratch<T>(size_)) {}

  void clear() { std::fill_n(data_.get(), size_, T(0)); }

  template <class Stored>
  void fill(const Stored* sample) {  // [C, H, W]; the margin must be clear
    for (int64_t y = 0; y < shape_.height; ++y) {
      T* row = at(shape_.origin() + y * shape_.pitch());
      for (int64_t c = 0; c < channels_; ++c) {
        const Stored* from = sample + (c * shape_.height + y) * shape_.width;
        for (int64_t x = 0; x < shape_.width; ++x) row[x * channels_ + c] = widen(from[x]);
      }
    }
  }

  void read_channel(int64_t channel, T* pixels) const {  // [H, W]
    for (int64_t y = 0; y < shape_.height; ++y) {
      const T* row = at(shape_.origin() + y * shape_.pitch()) + channel;
      for (int64_t x = 0; x < shape_.width; ++x) pixels[y * shape_.width + x] = row[x * channels_];
    }
  }

  // From one pixel to its right and lower neighbours.
  int64_t step_x() const { return channels_; }
  int64_t step_y() const { return shape_.pitch() * channels_; }

  T* at(int64_t cell) { return data_.get() + cell * channels_; }              // [C]
  const T* at(int64_t cell) const { return data_.get() + cell * channels_; }  // [C]

  // Of the first `count` channels from `top_left` on.
  Corners<Vec<T>> corners(const T* top_left, int64_t count) const {
    const Vec<T> left = load(top_left, count), right = load(top_left + step_x(), count);
    return {left, load(top_left + step_y(), count) - left, right, load(top_left + step_y() + step_x(), count) - right};
  }

  void add(T* top_left, const CornerGradients<Vec<T>>& grads, int64_t count) const {
    const auto add_at = [count](T* pixel, Vec<T> grad) { store(pixel, load(pixel, count) + grad, count); };
    add_at(top_left, grads.top_left);
    add_at(top_left + step_x(), grads.top_right);
    add_at(top_left + step_y(), grads.bottom_left);
    add_at(top_left + step_y() + step_x(), grads.bottom_right);
  }

 private:
  PlaneShape shape_;
  int64_t channels_, size_;
  Scratch<T> data_;  // [pixels, C]
};

// Consecutive channels that share both their offsets and their group of the weight.
struct ChannelRun {
  int64_t first, count, weight_group;
};

// The runs of one offset group.
inline std::vector<ChannelRun> channel_runs(const Problem& problem, int64_t offset_group) {
  std::vector<ChannelRun> runs;
  const int64_t end = (offset_group + 1) * problem.offset_group_channels();
  for (int64_t c = offset_group * problem.offset_group_channels(); c < end; c += runs.back().count) {
    const int64_t weight_group = c / problem.group_channels();
    runs.push_back({c, std::min(end, (weight_group + 1) * problem.group_channels()) - c, weight_group});
  }
  return runs;
}

// Pixels that share one pass over the weights.
constexpr int shared_block_rows = vector_registers == 32 ? 8 : 4;

}  // namespace deformwarp::DEFORMWARP_ISA
