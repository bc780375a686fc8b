// All gradients where several channels share their offsets: docs/mathematics.md (9) to (12), a tap of a tile at a time.
#pragma once

#include "matmul.h"
#include "pool.h"
#include "sampling.h"
#include "shared_image.h"
#include "slices.h"

namespace deformwarp::DEFORMWARP_ISA {

template <class Stored>
class SharedBackward {
  using T = Arithmetic<Stored>;
  static constexpr int tile_pixels = 64;
  static constexpr int64_t most_slices = 8;

  struct Worker {
    explicit Worker(const Problem& problem)
        : windows(problem),
          image({problem.height, problem.width}, problem.channels),
          grad_image({problem.height, problem.width}, problem.channels),
          grad_output(make_scratch<T>(tile_pixels * problem.groups * padded<T>(problem.group_out_channels()))),
          column(make_scratch<T>(tile_pixels * padded<T>(problem.offset_group_channels()))),
          grad_column(make_scratch<T>(tile_pixels * padded<T>(problem.offset_group_channels()))),
          grad_pixels(make_scratch<T>(problem.plane())) {
      image.clear();
    }

    Windows<T> windows;
    SharedImage<T> image, grad_image;
    Scratch<T> grad_output;  // [tile_pixels, groups, C_out / groups]
    Scratch<T> column;       // [tile_pixels, channels of a run]
    Scratch<T> grad_column;  // [tile_pixels, channels of a run]
    Scratch<T> grad_pixels;  // [H, W]
    std::vector<Tap<Stored>> taps;
    Samples<T, tile_pixels> samples;
    // Of one tap, summed over the channels of its offset group.
    T grad_y[tile_pixels], grad_x[tile_pixels], grad_mask[tile_pixels];
  };

 public:
  SharedBackward(const Problem& problem, const Gradients& grads)
      : problem_(problem),
        grads_(grads),
        slices_(problem, wanted_slices(problem)),
        grad_input_(problem, grads.input, slices_.segments()),
        weight_(make_scratch<T>(problem.total_taps() * problem.group_out_channels() * problem.channels)) {
    if (grads_.weight != nullptr) partial_weight_ = make_scratch<T>(slices_.count() * weight_size());
  }

  void run(const Pool& pool) {
    pack_weight(pool);
    pool.for_each(slices_.count(), [&](ItemQueue& queue) {
      Worker worker(problem_);
      for (int64_t item; queue.pop(item);) walk(worker, item);
    });
    if (grads_.weight != nullptr) add_up_weight(pool);
    grad_input_.add_up(pool);
  }

 private:
  // Every slice sums a whole weight's gradient, so none is shorter than a tile.
  static int64_t wanted_slices(const Problem& problem) {
    return std::clamp<int64_t>(problem.samples * problem.out_plane() / tile_pixels, 1, most_slices);
  }

  int64_t rows() const { return padded<T>(problem_.group_out_channels()); }
  int64_t pixel_grads() const { return problem_.groups * rows(); }
  int64_t weight_size() const { return problem_.total_taps() * problem_.channels * rows(); }

  // [D * K, C_out / groups, C], scaled.
  void pack_weight(const Pool& pool) {
    const Stored* weight = static_cast<const Stored*>(problem_.weight);
    pool.for_each(problem_.branch_count * problem_.group_out_channels(), [&](ItemQueue& queue) {
      for (int64_t item; queue.pop(item);) {
        const int64_t branch = item / problem_.group_out_channels(), row = item % problem_.group_out_channels();
        T* packed =
            weight_.get() + (branch * problem_.taps() * problem_.group_out_channels() + row) * problem_.channels;
        for (int64_t c = 0; c < problem_.channels; ++c) {
          const ChannelWeights factors(problem_, c);
          for (int64_t k = 0; k < problem_.taps(); ++k) {
            const T factor = T(widen(weight[factors.at(branch, k, row)])) * T(problem_.scale);
            packed[k * problem_.group_out_channels() * problem_.channels + c] = factor;
          }
        }
      }
    });
  }

  void walk(Worker& worker, int64_t slice_number) const {
    const Slice part = slices_[slice_number];
    T* grad_weight = nullptr;
    if (grads_.weight != nullptr) {
      grad_weight = partial_weight_.get() + slice_number * weight_size();
      std::fill_n(grad_weight, weight_size(), T(0));
    }
    for (int64_t sample = part.first_sample; sample < part.last_sample; ++sample) {
      worker.image.fill(static_cast<const Stored*>(problem_.input) + sample * problem_.channels * problem_.plane());
      if (grad_input_.wanted()) worker.grad_image.clear();
      for (int64_t p = part.begin; p < part.end; p += tile_pixels) {
        walk_tile(worker, sample, {p, std::min<int64_t>(tile_pixels, part.end - p)}, grad_weight);
      }
      for (int64_t c = 0; grad_input_.wanted() && c < problem_.channels; ++c) {
        worker.grad_image.read_channel(c, worker.grad_pixels.get());
        grad_input_.put(part.segment, sample * problem_.channels + c, worker.grad_pixels.get());
      }
    }
  }

  void walk_tile(Worker& worker, int64_t sample, Tile tile, T* grad_weight) const {
    read_grad_output(worker, sample, tile);
    for (int64_t group = 0; group < problem_.offset_groups; ++group) {
      list_taps(problem_, sample, group, worker.taps);
      const auto runs = channel_runs(problem_, group);
      for (int64_t tap = 0; tap < problem_.total_taps(); ++tap) {
        locate(worker.taps[tap], worker.windows, tile, {problem_.height, problem_.width}, worker.samples);
        for (T* sums : {worker.grad_y, worker.grad_x, worker.grad_mask}) std::fill_n(sums, tile_pixels, T(0));
        for (const ChannelRun& run : runs) walk_run(worker, tap, run, tile, grad_weight);
        write_tap(worker, sample, group, tap, tile);
      }
    }
  }

  void read_grad_output(Worker& worker, int64_t sample, Tile tile) const {
    std::fill_n(worker.grad_output.get(), tile_pixels * pixel_grads(), T(0));
    for (int64_t channel = 0; channel < problem_.out_channels; ++channel) {
      const int64_t row = channel / problem_.group_out_channels() * rows() + channel % problem_.group_out_channels();
      const Stored* from = static_cast<const Stored*>(grads_.grad_output) +
                           (sample * problem_.out_channels + channel) * problem_.out_plane() + tile.begin;
      for (int64_t p = 0; p < tile.count; ++p) worker.grad_output[p * pixel_grads() + row] = widen(from[p]);
    }
  }

  void walk_run(Worker& worker, int64_t tap, const ChannelRun& run, Tile tile, T* grad_weight) const {
    const int64_t pitch = padded<T>(run.count), depth = problem_.group_out_channels();
    const T* grad_output = worker.grad_output.get() + run.weight_group * rows();
    multiply<T, shared_block_rows>({grad_output, pixel_grads(), 1},
                                   weight_.get() + tap * depth * problem_.channels + run.first, problem_.channels,
                                   depth, worker.grad_column.get(), pitch, tile.count, run.count, false);
    if (grad_input_.wanted()) {
      differentiate<true>(worker, tap, run, tile);
    } else {
      differentiate<false>(worker, tap, run, tile);
    }
    if (grad_weight != nullptr) {
      multiply<T>({worker.column.get(), 1, pitch}, grad_output, pixel_grads(), tile.count,
                  grad_weight + (tap * problem_.channels + run.first) * rows(), rows(), run.count, rows(), true);
    }
  }

  template <bool to_input>
  void differentiate(Worker& worker, int64_t tap, const ChannelRun& run, Tile tile) const {
    const int64_t pitch = padded<T>(run.count);
    const Stored* mask = worker.taps[tap].mask;
    for (int64_t p = 0; p < tile.count; ++p) {
      const int64_t cell = worker.samples.cell[p];
      const T* pixel = worker.image.at(cell) + run.first;
      T* grad_pixel = to_input ? worker.grad_image.at(cell) + run.first : nullptr;
      const Vec<T> ly = broadcast(worker.samples.ly[p]), lx = broadcast(worker.samples.lx[p]);
      const T factor = mask == nullptr ? T(1) : T(widen(mask[tile.begin + p]));
      Vec<T> grad_y{}, grad_x{}, grad_mask{};
      for (int64_t c = 0; c < run.count; c += lanes<T>) {
        const Corners<Vec<T>> corners = worker.image.corners(pixel + c, run.count - c);
        const Vec<T> grad = load(worker.grad_column.get() + p * pitch + c, run.count - c);
        const Vec<T> value = bilinear_value(corners, ly, lx);
        store(worker.column.get() + p * pitch + c, factor * value);
        grad_mask += grad * value;
        grad_y += grad * bilinear_dy(corners, lx);
        grad_x += grad * bilinear_dx(corners, ly);
        if constexpr (to_input) {
          worker.grad_image.add(grad_pixel + c, bilinear_scatter(Vec<T>(grad * factor), ly, lx), run.count - c);
        }
      }
      worker.grad_y[p] += factor * sum<T>(grad_y);
      worker.grad_x[p] += factor * sum<T>(grad_x);
      worker.grad_mask[p] += sum<T>(grad_mask);
    }
  }

  void write_tap(const Worker& worker, int64_t sample, int64_t group, int64_t tap, Tile tile) const {
    const BranchGradients& grads = grads_.branches[tap / problem_.taps()];
    const int64_t plane = (sample * problem_.offset_groups + group) * problem_.taps() + tap % problem_.taps();
    if (grads.offset != nullptr) {
      Stored* offset = static_cast<Stored*>(grads.offset) + 2 * plane * problem_.out_plane() + tile.begin;
      narrow_row(worker.grad_y, offset, tile.count);
      narrow_row(worker.grad_x, offset + problem_.out_plane(), tile.count);
    }
    if (grads.mask != nullptr) {
      Stored* to = static_cast<Stored*>(grads.mask) + plane * problem_.out_plane() + tile.begin;
      narrow_row(worker.grad_mask, to, tile.count);
    }
  }

  // A vector of rows at a time, as the forward packs them.
  void add_up_weight(const Pool& pool) const {
    Stored* grad_weight = static_cast<Stored*>(grads_.weight);
    pool.for_each(problem_.channels * (rows() / lanes<T>), [&](ItemQueue& queue) {
      for (int64_t item; queue.pop(item);) {
        const int64_t c = item % problem_.channels, first = item / problem_.channels * lanes<T>;
        const int64_t used = std::min<int64_t>(lanes<T>, problem_.group_out_channels() - first);
        const ChannelWeights factors(problem_, c);
        for_each_tap(problem_, [&](int64_t tap, int64_t branch, int64_t k) {
          Vec<T> sums{};
          for (int64_t s = 0; s < slices_.count(); ++s) {
            sums += load<T>(partial_weight_.get() + s * weight_size() + (tap * problem_.channels + c) * rows() + first);
          }
          for (int64_t l = 0; l < used; ++l) {
            narrow(T(sums[l]) * T(problem_.scale), grad_weight[factors.at(branch, k, first + l)]);
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
  Scratch<T> partial_weight_;  // [slices, D * K, C, C_out / groups]
};

}  // namespace deformwarp::DEFORMWARP_ISA
