// The fused forward where several channels share their offsets: docs/mathematics.md (8), a tap of a tile at a time.
#pragma once

#include "matmul.h"
#include "pool.h"
#include "sampling.h"
#include "shared_image.h"

namespace deformwarp::DEFORMWARP_ISA {

template <class Stored>
class SharedForward {
  using T = Arithmetic<Stored>;
  static constexpr int tile_pixels = 64;

  struct Worker {
    explicit Worker(const Problem& problem)
        : windows(problem),
          image({problem.height, problem.width}, problem.channels),
          column(make_scratch<T>(tile_pixels * padded<T>(problem.offset_group_channels()))),
          sums(make_scratch<T>(tile_pixels * problem.groups * padded<T>(problem.group_out_channels()))) {
      image.clear();
    }

    Windows<T> windows;
    SharedImage<T> image;
    Scratch<T> column;  // [tile_pixels, channels of an offset group]
    Scratch<T> sums;    // [tile_pixels, groups, C_out / groups]
    std::vector<Tap<Stored>> taps;
    Samples<T, tile_pixels> samples;
  };

 public:
  SharedForward(const Problem& problem, const Output& output)
      : problem_(problem),
        output_(output),
        weight_(make_scratch<T>(problem.total_taps() * problem.channels * rows())) {}

  void run(const Pool& pool) {
    pack_weight(pool);
    const int64_t for_threads = (pool.threads + problem_.samples - 1) / std::max<int64_t>(problem_.samples, 1);
    const int64_t ranges = std::max<int64_t>(1, std::min(for_threads, problem_.out_plane() / tile_pixels));
    const int64_t tiles = (problem_.out_plane() + tile_pixels - 1) / tile_pixels;
    pool.for_each(problem_.samples * ranges, [&](ItemQueue& queue) {
      Worker worker(problem_);
      for (int64_t item; queue.pop(item);) {
        const int64_t range = item % ranges;
        warp_range(worker, item / ranges, range * tiles / ranges, (range + 1) * tiles / ranges);
      }
    });
  }

 private:
  int64_t rows() const { return padded<T>(problem_.group_out_channels()); }
  int64_t pixel_sums() const { return problem_.groups * rows(); }

  // [D * K, C, C_out / groups], scaled and padded with zeros. A vector of rows at a time, so that reading walks along
  // as many rows of the weight and writing fills whole cache lines.
  void pack_weight(const Pool& pool) {
    const Stored* weight = static_cast<const Stored*>(problem_.weight);
    const int64_t blocks = rows() / lanes<T>;
    pool.for_each(problem_.channels * blocks, [&](ItemQueue& queue) {
      for (int64_t item; queue.pop(item);) {
        const int64_t c = item % problem_.channels, first = item / problem_.channels * lanes<T>;
        const ChannelWeights factors(problem_, c);
        for_each_tap(problem_, [&](int64_t tap, int64_t branch, int64_t k) {
          T* packed = weight_.get() + (tap * problem_.channels + c) * rows();
          for (int64_t row = first; row < first + lanes<T>; ++row) {
            const bool used = row < problem_.group_out_channels();
            packed[row] = used ? T(widen(weight[factors.at(branch, k, row)])) * T(problem_.scale) : T(0);
          }
        });
      }
    });
  }

  void warp_range(Worker& worker, int64_t sample, int64_t first_tile, int64_t last_tile) const {
    worker.image.fill(static_cast<const Stored*>(problem_.input) + sample * problem_.channels * problem_.plane());
    for (int64_t t = first_tile; t < last_tile; ++t) {
      const int64_t begin = t * tile_pixels;
      const Tile tile{begin, std::min<int64_t>(tile_pixels, problem_.out_plane() - begin)};
      std::fill_n(worker.sums.get(), tile_pixels * pixel_sums(), T(0));
      for (int64_t group = 0; group < problem_.offset_groups; ++group) {
        list_taps(problem_, sample, group, worker.taps);
        const auto runs = channel_runs(problem_, group);
        for (int64_t tap = 0; tap < problem_.total_taps(); ++tap) {
          locate(worker.taps[tap], worker.windows, tile, {problem_.height, problem_.width}, worker.samples);
          for (const ChannelRun& run : runs) add_run(worker, tap, run, tile);
        }
      }
      write_tile(worker, sample, tile);
    }
  }

  void add_run(Worker& worker, int64_t tap, const ChannelRun& run, Tile tile) const {
    const int64_t pitch = padded<T>(run.count);
    const Stored* mask = worker.taps[tap].mask;
    for (int64_t p = 0; p < tile.count; ++p) {
      const T* pixel = worker.image.at(worker.samples.cell[p]) + run.first;
      const Vec<T> ly = broadcast(worker.samples.ly[p]), lx = broadcast(worker.samples.lx[p]);
      const Vec<T> factor = broadcast(mask == nullptr ? T(1) : T(widen(mask[tile.begin + p])));
      for (int64_t c = 0; c < run.count; c += lanes<T>) {
        store(worker.column.get() + p * pitch + c,
              factor * bilinear_value(worker.image.corners(pixel + c, run.count - c), ly, lx));
      }
    }
    multiply<T, shared_block_rows>(
        {worker.column.get(), pitch, 1}, weight_.get() + (tap * problem_.channels + run.first) * rows(), rows(),
        run.count, worker.sums.get() + run.weight_group * rows(), pixel_sums(), tile.count, rows(), true);
  }

  void write_tile(const Worker& worker, int64_t sample, Tile tile) const {
    const Stored* bias = static_cast<const Stored*>(output_.bias);
    for (int64_t channel = 0; channel < problem_.out_channels; ++channel) {
      const int64_t row = channel / problem_.group_out_channels() * rows() + channel % problem_.group_out_channels();
      const T start = bias == nullptr ? T(0) : T(widen(bias[channel]));
      Stored* output = static_cast<Stored*>(output_.output) +
                       (sample * problem_.out_channels + channel) * problem_.out_plane() + tile.begin;
      for (int64_t p = 0; p < tile.count; ++p) narrow(start + worker.sums[p * pixel_sums() + row], output[p]);
    }
  }

  const Problem& problem_;
  const Output& output_;
  Scratch<T> weight_;
};

}  // namespace deformwarp::DEFORMWARP_ISA
