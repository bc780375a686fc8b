// The fused forward where every channel has offsets of its own: docs/mathematics.md (8). No column buffer: a tile's
// samples live in the first-level cache.
#pragma once

#include "matmul.h"
#include "pool.h"
#include "sampling.h"

namespace deformwarp::DEFORMWARP_ISA {

template <class Stored>
class PlanarForward {
  using T = Arithmetic<Stored>;
  static constexpr int tile_pixels = 384;
  static constexpr int tile_taps = 48;
  // A float16 or bfloat16 result is summed in a buffer of its own, at most this many pixels of it.
  static constexpr int64_t buffered_pixels = 2048;
  static constexpr bool sums_in_output = std::is_same_v<T, Stored>;

  struct Worker {
    explicit Worker(const Problem& problem) : windows(problem), plane({problem.height, problem.width}) {
      if constexpr (!sums_in_output) sums = make_scratch<T>(problem.out_channels * buffered_pixels);
    }

    Windows<T> windows;
    PairPlane<T> plane;
    std::vector<Tap<Stored>> taps;
    Scratch<T> sums;  // [C_out, buffered_pixels]
    Samples<T, tile_pixels> samples;
    alignas(64) T columns[tile_taps][tile_pixels];
  };

  // Sums of one range of output pixels: [C_out, count], rows `stride` apart.
  struct Sums {
    T* data;
    int64_t stride;
  };

 public:
  PlanarForward(const Problem& problem, const Output& output)
      : problem_(problem), output_(output), weight_(make_scratch<T>(weight_size())) {
    pack_weight();
  }

  void run(const Pool& pool) const {
    const int64_t ranges = ranges_per_sample(pool.threads);
    const int64_t length = (problem_.out_plane() + ranges - 1) / ranges;
    pool.for_each(problem_.samples * ranges, [&](ItemQueue& queue) {
      Worker worker(problem_);
      for (int64_t item; queue.pop(item);) {
        const int64_t begin = item % ranges * length;
        const int64_t end = std::min(begin + length, problem_.out_plane());
        if (begin < end) warp_range(worker, item / ranges, begin, end);
      }
    });
  }

 private:
  int64_t weight_size() const { return problem_.channels * problem_.total_taps() * problem_.group_out_channels(); }

  // [C, D * K, C_out / groups], scaled: the factors of one column stand side by side.
  void pack_weight() {
    const Stored* weight = static_cast<const Stored*>(problem_.weight);
    T* packed = weight_.get();
    for (int64_t c = 0; c < problem_.channels; ++c) {
      const ChannelWeights factors(problem_, c);
      for_each_tap(problem_, [&](int64_t, int64_t branch, int64_t k) {
        for (int64_t row = 0; row < problem_.group_out_channels(); ++row) {
          *packed++ = T(widen(weight[factors.at(branch, k, row)])) * T(problem_.scale);
        }
      });
    }
  }

  // Every range fills all channel planes anew, so there are no more of them than the threads can use.
  int64_t ranges_per_sample(int64_t threads) const {
    const int64_t for_threads = (threads + problem_.samples - 1) / std::max<int64_t>(problem_.samples, 1);
    const int64_t for_buffer = sums_in_output ? 1 : (problem_.out_plane() + buffered_pixels - 1) / buffered_pixels;
    return std::max<int64_t>({1, for_buffer, std::min(for_threads, problem_.out_plane() / tile_pixels)});
  }

  void warp_range(Worker& worker, int64_t sample, int64_t begin, int64_t end) const {
    Stored* output = static_cast<Stored*>(output_.output) + sample * problem_.out_channels * problem_.out_plane() +
                     begin;  // [C_out, Ho * Wo]
    Sums sums;
    if constexpr (sums_in_output) {
      sums = {output, problem_.out_plane()};
    } else {
      sums = {worker.sums.get(), buffered_pixels};
    }
    start_from_bias(sums, end - begin);
    const Stored* input = static_cast<const Stored*>(problem_.input) + sample * problem_.channels * problem_.plane();
    for (int64_t c = 0; c < problem_.channels; ++c) {
      worker.plane.fill(input + c * problem_.plane());
      list_taps(problem_, sample, c, worker.taps);
      for (int64_t p = begin; p < end; p += tile_pixels) {
        add_tile(worker, c, {p, std::min<int64_t>(tile_pixels, end - p)}, {sums.data + (p - begin), sums.stride});
      }
    }
    if constexpr (!sums_in_output) {
      for (int64_t row = 0; row < problem_.out_channels; ++row) {
        narrow_row(sums.data + row * sums.stride, output + row * problem_.out_plane(), end - begin);
      }
    }
  }

  void start_from_bias(Sums sums, int64_t count) const {
    const Stored* bias = static_cast<const Stored*>(output_.bias);
    for (int64_t row = 0; row < problem_.out_channels; ++row) {
      std::fill_n(sums.data + row * sums.stride, count, bias == nullptr ? T(0) : T(widen(bias[row])));
    }
  }

  void add_tile(Worker& worker, int64_t channel, Tile tile, Sums sums) const {
    const int64_t total = problem_.total_taps(), rows = problem_.group_out_channels();
    T* group_sums = sums.data + channel / problem_.group_channels() * rows * sums.stride;
    for (int64_t first = 0; first < total; first += tile_taps) {
      const int64_t count = std::min<int64_t>(tile_taps, total - first);
      for (int64_t t = 0; t < count; ++t) sample_tap(worker, first + t, tile, worker.columns[t]);
      multiply<T>({weight_.get() + (channel * total + first) * rows, 1, rows}, worker.columns[0], int64_t(tile_pixels),
                  count, group_sums, sums.stride, rows, tile.count, true);
    }
  }

  void sample_tap(Worker& worker, int64_t t, Tile tile, T* column) const {
    const Tap<Stored>& tap = worker.taps[t];
    const Ahead<Stored> ahead(worker.taps, t, tile.begin, tile_pixels);
    locate(tap, worker.windows, tile, {problem_.height, problem_.width}, worker.samples);
    const Samples<T, tile_pixels>& samples = worker.samples;
    const T* pairs = worker.plane.data();
    const auto sample = [&](int64_t i) {
      ahead.fetch(i);
      return bilinear_value(load_corners(pairs, samples.cell + i), load(samples.ly + i), load(samples.lx + i));
    };
    if (tap.mask == nullptr) {
      for (int64_t i = 0; i < tile.count; i += lanes<T>) store(column + i, sample(i));
    } else {
      const Stored* mask = tap.mask + tile.begin;
      for (int64_t i = 0; i < tile.count; i += lanes<T>) {
        store(column + i, Vec<T>(sample(i) * load_widened(mask + i, tile.count - i)));
      }
    }
  }

  const Problem& problem_;
  const Output& output_;
  Scratch<T> weight_;
};

}  // namespace deformwarp::DEFORMWARP_ISA
