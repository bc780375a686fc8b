// All gradients in one pass over the offsets, where every channel has offsets of its own: docs/mathematics.md (9)
// to (12).
#pragma once

#include "matmul.h"
#include "pool.h"
#include "sampling.h"
#include "slices.h"

namespace deformwarp::DEFORMWARP_ISA {

template <class Stored>
class PlanarBackward {
  using T = Arithmetic<Stored>;
  static constexpr int tile_pixels = 384;
  static constexpr int tile_taps = 24;
  // Work items there should be. A constant: results must not depend on the number of threads.
  static constexpr int64_t wanted_items = 32;

  struct TapGradients {
    Stored *offset_y, *offset_x, *mask;  // [Ho * Wo], null where not wanted
  };

  struct Worker {
    explicit Worker(const Problem& problem)
        : windows(problem),
          plane({problem.height, problem.width}),
          cells({problem.height, problem.width}),
          grad_pixels(make_scratch<T>(problem.plane())),
          grad_output(make_scratch<T>(problem.group_out_channels() * tile_pixels)),
          grad_weight(make_scratch<Vec<T>>(problem.total_taps() * problem.group_out_channels())) {}

    Windows<T> windows;
    PairPlane<T> plane;
    CellPlane<T> cells;
    Scratch<T> grad_pixels;       // [H, W]
    Scratch<T> grad_output;       // [C_out / groups, tile_pixels]
    Scratch<Vec<T>> grad_weight;  // [D * K, C_out / groups], lanes not yet added up
    std::vector<Tap<Stored>> taps;
    std::vector<TapGradients> tap_grads;  // [D * K], of the item's sample and channel
    Samples<T, tile_pixels> samples;
    alignas(64) T columns[tile_taps][tile_pixels];
    alignas(64) T grad_columns[tile_taps][tile_pixels];
  };

 public:
  PlanarBackward(const Problem& problem, const Gradients& grads)
      : problem_(problem),
        grads_(grads),
        slices_(problem, (wanted_items + problem.channels - 1) / problem.channels),
        grad_input_(problem, grads.input, slices_.segments()),
        weight_(make_scratch<T>(weight_size())) {
    pack_weight();
    if (grads_.weight != nullptr) partial_weight_ = make_scratch<T>(slices_.count() * weight_size());
  }

  void run(const Pool& pool) const {
    pool.for_each(problem_.channels * slices_.count(), [&](ItemQueue& queue) {
      Worker worker(problem_);
      for (int64_t item; queue.pop(item);) walk(worker, item % problem_.channels, item / problem_.channels);
      end_streaming();
    });
    if (grads_.weight != nullptr) add_up_weight(pool);
    grad_input_.add_up(pool);
  }

 private:
  int64_t weight_size() const { return problem_.channels * problem_.total_taps() * problem_.group_out_channels(); }

  // [C, C_out / groups, D * K], scaled: the transpose of the forward's packing.
  void pack_weight() {
    const Stored* weight = static_cast<const Stored*>(problem_.weight);
    T* packed = weight_.get();
    for (int64_t c = 0; c < problem_.channels; ++c) {
      const ChannelWeights factors(problem_, c);
      for (int64_t row = 0; row < problem_.group_out_channels(); ++row) {
        for_each_tap(problem_, [&](int64_t, int64_t branch, int64_t k) {
          *packed++ = T(widen(weight[factors.at(branch, k, row)])) * T(problem_.scale);
        });
      }
    }
  }

  void walk(Worker& worker, int64_t channel, int64_t slice_number) const {
    const Slice part = slices_[slice_number];
    const int64_t sums = problem_.total_taps() * problem_.group_out_channels();
    std::fill_n(worker.grad_weight.get(), sums, Vec<T>{});
    for (int64_t sample = part.first_sample; sample < part.last_sample; ++sample) {
      const int64_t plane_index = sample * problem_.channels + channel;
      worker.plane.fill(static_cast<const Stored*>(problem_.input) + plane_index * problem_.plane());
      list_taps(problem_, sample, channel, worker.taps);
      list_tap_gradients(sample, channel, worker.tap_grads);
      if (grad_input_.wanted()) worker.cells.clear();
      for (int64_t p = part.begin; p < part.end; p += tile_pixels) {
        walk_tile(worker, sample, channel, {p, std::min<int64_t>(tile_pixels, part.end - p)});
      }
      if (grad_input_.wanted()) {
        worker.cells.fold(worker.grad_pixels.get());
        grad_input_.put(part.segment, plane_index, worker.grad_pixels.get());
      }
    }
    if (grads_.weight != nullptr) {
      T* partial = partial_weight_.get() + slice_number * weight_size() + channel * sums;
      for (int64_t i = 0; i < sums; ++i) partial[i] = sum<T>(worker.grad_weight[i]);
    }
  }

  void list_tap_gradients(int64_t sample, int64_t channel, std::vector<TapGradients>& tap_grads) const {
    tap_grads.clear();
    for (int64_t d = 0; d < problem_.branch_count; ++d) {
      Stored* offset = static_cast<Stored*>(grads_.branches[d].offset);
      Stored* mask = static_cast<Stored*>(grads_.branches[d].mask);
      for (int64_t k = 0; k < problem_.taps(); ++k) {
        const int64_t plane = ((sample * problem_.channels + channel) * problem_.taps() + k) * problem_.out_plane();
        tap_grads.push_back({offset == nullptr ? nullptr : offset + 2 * plane,
                             offset == nullptr ? nullptr : offset + 2 * plane + problem_.out_plane(),
                             mask == nullptr ? nullptr : mask + plane});
      }
    }
  }

  void walk_tile(Worker& worker, int64_t sample, int64_t channel, Tile tile) const {
    const int64_t total = problem_.total_taps(), rows = problem_.group_out_channels();
    const int64_t first_row = sample * problem_.out_channels + channel / problem_.group_channels() * rows;
    const Stored* grad_output = static_cast<const Stored*>(grads_.grad_output) + tile.begin;
    for (int64_t row = 0; row < rows; ++row) {
      widen_row(grad_output + (first_row + row) * problem_.out_plane(), worker.grad_output.get() + row * tile_pixels,
                tile.count);
    }
    for (int64_t first = 0; first < total; first += tile_taps) {
      const int64_t count = std::min<int64_t>(tile_taps, total - first);
      multiply<T>({weight_.get() + channel * rows * total + first, 1, total}, worker.grad_output.get(),
                  int64_t(tile_pixels), rows, worker.grad_columns[0], int64_t(tile_pixels), count, tile.count, false);
      for (int64_t t = 0; t < count; ++t) {
        locate(worker.taps[first + t], worker.windows, tile, {problem_.height, problem_.width}, worker.samples);
        if (grad_input_.wanted()) {
          differentiate<true>(worker, first, t, tile);
        } else {
          differentiate<false>(worker, first, t, tile);
        }
      }
      if (grads_.weight != nullptr) {
        correlate(worker.columns[0], int64_t(tile_pixels), worker.grad_output.get(), int64_t(tile_pixels), tile.count,
                  worker.grad_weight.get() + first * rows, rows, count, rows);
      }
    }
  }

  // One tap of one tile: samples, and what their gradients mean for offsets, mask and input.
  template <bool to_input>
  void differentiate(Worker& worker, int64_t first, int64_t t, Tile tile) const {
    const Samples<T, tile_pixels>& samples = worker.samples;
    const Ahead<Stored> ahead(worker.taps, first + t, tile.begin, tile_pixels);
    const Stored* mask = worker.taps[first + t].mask;
    const TapGradients& grads = worker.tap_grads[first + t];
    const T* pairs = worker.plane.data();
    for_each_vector<T>(tile.count, [&](int64_t i, auto count) {
      ahead.fetch(i);
      const Corners<Vec<T>> corners = load_corners(pairs, samples.cell + i);
      const Vec<T> ly = load(samples.ly + i), lx = load(samples.lx + i);
      Vec<T> value = bilinear_value(corners, ly, lx);
      Vec<T> grad = load(worker.grad_columns[t] + i);
      if (grads.mask != nullptr) stream_narrowed(grads.mask + tile.begin + i, grad * value, count);
      if (mask != nullptr) {
        const Vec<T> factor = load_widened(mask + tile.begin + i, count);
        value *= factor;
        grad *= factor;
      }
      store(worker.columns[t] + i, value);
      if (grads.offset_y != nullptr) {
        stream_narrowed(grads.offset_y + tile.begin + i, grad * bilinear_dy(corners, lx), count);
        stream_narrowed(grads.offset_x + tile.begin + i, grad * bilinear_dx(corners, ly), count);
      }
      if constexpr (to_input) {
        add_to_cells(worker.cells.data(), samples.cell + i, bilinear_scatter(grad, ly, lx), count);
      }
    });
  }

  void add_up_weight(const Pool& pool) const {
    const int64_t total = problem_.total_taps(), rows = problem_.group_out_channels();
    pool.for_each(problem_.channels, [&](ItemQueue& queue) {
      for (int64_t channel; queue.pop(channel);) {
        const ChannelWeights factors(problem_, channel);
        const T* partial = partial_weight_.get() + channel * total * rows;
        for_each_tap(problem_, [&](int64_t tap, int64_t branch, int64_t k) {
          for (int64_t row = 0; row < rows; ++row) {
            T sum = 0;
            for (int64_t s = 0; s < slices_.count(); ++s) sum += partial[s * weight_size() + tap * rows + row];
            narrow(sum * T(problem_.scale), static_cast<Stored*>(grads_.weight)[factors.at(branch, k, row)]);
          }
        });
      }
    });
  }

  const Problem& problem_;
  const Gradients& grads_;
  Slices slices_;
  InputGradient<Stored> grad_input_;
  Scratch<T> weight_;
  Scratch<T> partial_weight_;  // [slices, C, D * K, C_out / groups]
};

}  // namespace deformwarp::DEFORMWARP_ISA
