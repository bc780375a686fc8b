// Gradients by offsets, masks and input: what arrives at a sample (9), and what it means for them (10), (12).

#include "fixed_point.h"
#include "general.h"
#include "general_product.h"
#include "general_sampling.h"
#include "launch.h"

namespace deformwarp::cuda::general {

struct SamplingParams {
  Geometry geometry;
  int64_t pixel_tiles, slices, parts;
  bool partial;              // each part has blocks of its own
  const void* grad_output;   // [N, C_out, Ho, Wo]
  void* partial_sums;        // [parts, 3, branches * Kh*Kw, N, G, Ho*Wo] of the arithmetic type
  int64_t* input_sums;       // [limbs, N, C, H, W] or null
  const int32_t* exponents;  // [N] or null
};

// Of the channels of one offset group, at one pixel and tap.
template <class T>
struct SamplingSums {
  T by_y, by_x, by_mask;  // without the mask's factor

  __device__ __forceinline__ void add(const SamplingSums& other) {
    by_y += other.by_y;
    by_x += other.by_x;
    by_mask += other.by_mask;
  }
};

// Index in [branches * Kh*Kw, N, G, Ho*Wo].
template <class T>
__device__ __forceinline__ int64_t partial_at(const Geometry& g, const Pixel<T>& pixel, int tap, int offset_group) {
  return ((tap * g.samples + pixel.sample) * g.offset_groups + offset_group) * g.out_plane + pixel.index;
}

template <class Stored, class T = Arithmetic<Stored>>
__device__ __forceinline__ void write_gradients(const Geometry& g, const Pixel<T>& pixel, const Tap& tap,
                                                int offset_group, T mask, const SamplingSums<T>& sums) {
  const BranchGeometry& branch = g.branch[tap.branch];
  const int64_t plane = pixel.sample * g.offset_groups * g.taps() + tap_plane(g, offset_group, tap);
  if (branch.grad_offset != nullptr) {
    Stored* to = static_cast<Stored*>(branch.grad_offset) + 2 * plane * g.out_plane + pixel.index;
    store_element(to, mask * sums.by_y);
    store_element(to + g.out_plane, mask * sums.by_x);
  }
  if (branch.grad_mask != nullptr) {
    store_element(static_cast<Stored*>(branch.grad_mask) + plane * g.out_plane + pixel.index, sums.by_mask);
  }
}

// One tap of sampling_pixels output pixels, one a thread, and all channels of a slice of the offset groups, or of one
// part of each of these groups.
template <class Stored, int rows>
class SamplingBlock {
  using T = Arithmetic<Stored>;
  using Tile = SamplingTile<rows>;
  using Shared = SamplingShared<T, rows>;
  using Sums = T[Tile::thread_rows][Tile::thread_columns];

 public:
  __device__ __forceinline__ explicit SamplingBlock(const SamplingParams& params)
      : params_(params), g_(params.geometry) {
    int64_t rest = blockIdx.x;
    pixel_ = pixel_at<T>(g_, rest % params.pixel_tiles * sampling_pixels + threadIdx.x);
    rest /= params.pixel_tiles;
    const int64_t taps = int64_t(g_.branches) * g_.taps();
    tap_number_ = int(rest % taps);
    rest /= taps;
    tap_ = tap_at(g_, tap_number_);
    slice_ = rest % params.slices;
    part_ = rest / params.slices;
    if (params.exponents != nullptr && pixel_.exists) {
      const int exponent = global_load(params.exponents + pixel_.sample);
      adds_to_input_ = exponent != not_finite;
      if (adds_to_input_) scale_ = FixedPointScale<T>::of(exponent);
    }
  }

  __device__ __forceinline__ void run() {
    const int first = int(slice_ * g_.offset_groups / params_.slices);
    const int last = int((slice_ + 1) * g_.offset_groups / params_.slices);
    if (params_.partial) {
      for (int group = first; group < last; ++group) walk_part(group, int(part_));
    } else if (params_.parts > 1) {
      for (int group = first; group < last; ++group) walk_group(group);
    } else {
      walk_groups(first, last);
    }
  }

 private:
  __device__ __forceinline__ void enter(int offset_group) {
    if (!pixel_.exists) return;
    cell_ = locate<Stored>(g_, pixel_, tap_, offset_group);
    mask_ = mask_at<Stored>(g_, pixel_, tap_, offset_group);
  }

  __device__ __forceinline__ int part_begin(int offset_group, int part) const {
    return offset_group * g_.offset_group_channels + int(int64_t(part) * g_.offset_group_channels / params_.parts);
  }

  // One part of one group, whose sums a last kernel adds up.
  __device__ __forceinline__ void walk_part(int group, int part) {
    enter(group);
    SamplingSums<T> sums{};
    walk_channels(part_begin(group, part), part_begin(group, part + 1), sums, [](int) {});
    if (!pixel_.exists) return;
    const int64_t step = int64_t(g_.branches) * g_.taps() * g_.pixels() * g_.offset_groups;
    T* to = static_cast<T*>(params_.partial_sums) + 3 * part * step + partial_at(g_, pixel_, tap_number_, group);
    global_store(to, sums.by_y);
    global_store(to + step, sums.by_x);
    global_store(to + 2 * step, sums.by_mask);
  }

  // The parts of one group, added up in order.
  __device__ __forceinline__ void walk_group(int group) {
    enter(group);
    SamplingSums<T> totals{};
    for (int part = 0; part < params_.parts; ++part) {
      SamplingSums<T> sums{};
      walk_channels(part_begin(group, part), part_begin(group, part + 1), sums, [](int) {});
      totals.add(sums);
    }
    if (pixel_.exists) write_gradients<Stored>(g_, pixel_, tap_, group, mask_, totals);
  }

  // Groups of few channels, several of which share a tile of the product.
  __device__ __forceinline__ void walk_groups(int first, int last) {
    int group = first, next_at = (first + 1) * g_.offset_group_channels;
    enter(group);
    SamplingSums<T> sums{};
    walk_channels(first * g_.offset_group_channels, last * g_.offset_group_channels, sums, [&](int channel) {
      if (channel != next_at) return;
      write_gradients<Stored>(g_, pixel_, tap_, group, mask_, sums);
      enter(++group);
      next_at += g_.offset_group_channels;
      sums = {};
    });
    if (pixel_.exists) write_gradients<Stored>(g_, pixel_, tap_, group, mask_, sums);
  }

  // Adds channels [begin, end) to `sums`; `before` is called with each of them where the pixel exists.
  template <class Before>
  __device__ __forceinline__ void walk_channels(int begin, int end, SamplingSums<T>& sums, const Before& before) {
    while (begin < end) {
      const int weight_group = begin / g_.group_channels;
      const int count = min(min(rows, end - begin), (weight_group + 1) * g_.group_channels - begin);
      multiply(weight_group, begin - weight_group * g_.group_channels, count);
      if (pixel_.exists) {
        for (int row = 0; row < count; ++row) {
          before(begin + row);
          differentiate(begin + row, shared_load<T>(arriving(row, threadIdx.x)), sums);
        }
      }
      begin += count;
    }
  }

  __device__ __forceinline__ uint32_t arriving(int row, int column) const {
    return shared_base() + (row * sampling_pixels + column) * int(sizeof(T));
  }
  __device__ __forceinline__ uint32_t weights(int buffer) const {
    return shared_base() + Shared::arriving_bytes + buffer * Shared::buffer_bytes;
  }
  __device__ __forceinline__ uint32_t grads(int buffer) const { return weights(buffer) + Shared::weight_bytes; }

  // (9) for `count` input channels of a weight group and all pixels of the block.
  __device__ __forceinline__ void multiply(int weight_group, int first_channel, int count) {
    Sums sums;
    set_to_zero(sums);
    const int row = int(threadIdx.x) / Tile::column_threads * Tile::thread_rows;
    const int column = int(threadIdx.x) % Tile::column_threads * Tile::thread_columns;
    int buffer = 0;
    for (int begin = 0; begin < g_.group_out_channels; begin += Shared::depth) {
      const int depth = min(Shared::depth, g_.group_out_channels - begin);
      fill_weights(buffer, weight_group, begin, depth, first_channel, count);
      fill_grads(buffer, weight_group, begin, depth);
      block_barrier();
      add_products(weights(buffer) + row * int(sizeof(T)), Shared::weight_pitch,
                   grads(buffer) + column * int(sizeof(T)), sampling_pixels, Shared::depth, sums);
      buffer ^= 1;
    }
#pragma unroll
    for (int r = 0; r < Tile::thread_rows; ++r) store_row(arriving(row + r, column), sums[r]);
    block_barrier();
  }

  __device__ __forceinline__ void fill_weights(int buffer, int weight_group, int first_out_channel, int depth,
                                               int first_channel, int count) const {
    const Stored* weight = static_cast<const Stored*>(g_.weight);
#pragma unroll 4
    for (int i = threadIdx.x; i < rows * Shared::depth; i += threads) {
      const int row = i % rows, k = i / rows;
      const bool used = row < count && k < depth;
      const int64_t at = weight_at(g_, tap_, weight_group, first_out_channel + k, first_channel + row);
      shared_store(weights(buffer) + (k * Shared::weight_pitch + row) * int(sizeof(T)),
                   used ? load_element(weight + at) * T(g_.scale) : T(0));
    }
  }

  __device__ __forceinline__ void fill_grads(int buffer, int weight_group, int first_out_channel, int depth) const {
    const int64_t channel = int64_t(weight_group) * g_.group_out_channels + first_out_channel;
    const Stored* from = static_cast<const Stored*>(params_.grad_output) +
                         (pixel_.sample * g_.out_channels + channel) * g_.out_plane + pixel_.index;
#pragma unroll 4
    for (int k = 0; k < Shared::depth; ++k, from += g_.out_plane) {
      shared_store(grads(buffer) + (k * sampling_pixels + int(threadIdx.x)) * int(sizeof(T)),
                   pixel_.exists && k < depth ? load_element(from) : T(0));
    }
  }

  __device__ __forceinline__ void differentiate(int channel, T grad, SamplingSums<T>& sums) const {
    const Corners<T> corners = corners_at(g_, input_plane<Stored>(g_, pixel_, channel), cell_);
    sums.by_mask += grad * bilinear_value(corners, cell_.ly, cell_.lx);
    sums.by_y += grad * bilinear_dy(corners, cell_.lx);
    sums.by_x += grad * bilinear_dx(corners, cell_.ly);
    if (adds_to_input_) scatter(channel, scale_(mask_ * grad));
  }

  // (12), scaled: a power of two commutes with (7).
  __device__ __forceinline__ void scatter(int channel, T grad) const {
    const CornerGradients<T> grads = bilinear_scatter(grad, cell_.ly, cell_.lx);
    const int64_t limb = g_.samples * g_.channels * g_.plane();
    int64_t* to = params_.input_sums + (pixel_.sample * g_.channels + channel) * g_.plane() + cell_.corner;
    if (cell_.top && cell_.left) add_fixed(to, limb, grads.top_left);
    if (cell_.top && cell_.right) add_fixed(to + 1, limb, grads.top_right);
    if (cell_.bottom && cell_.left) add_fixed(to + g_.width, limb, grads.bottom_left);
    if (cell_.bottom && cell_.right) add_fixed(to + g_.width + 1, limb, grads.bottom_right);
  }

  const SamplingParams& params_;
  const Geometry& g_;
  Pixel<T> pixel_;
  Tap tap_;
  int tap_number_;
  int64_t slice_, part_;
  bool adds_to_input_ = false;
  FixedPointScale<T> scale_{};
  Cell<T> cell_{};
  T mask_ = T(1);
};

template <class Stored, int rows>
__global__ void __launch_bounds__(threads, 2) general_backward_sampling(const __grid_constant__ SamplingParams params) {
  SamplingBlock<Stored, rows>(params).run();
}

// The gradients of offset groups whose parts had blocks of their own, added in the order in which one block adds them.
template <class Stored>
__global__ void __launch_bounds__(threads) general_add_up_sampling(const __grid_constant__ SamplingParams params) {
  using T = Arithmetic<Stored>;
  const Geometry& g = params.geometry;
  const int64_t count = int64_t(g.branches) * g.taps() * g.pixels() * g.offset_groups;
  for (int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x; i < count; i += int64_t(gridDim.x) * threads) {
    const int64_t plane = quotient(i, g.out_plane);
    const int64_t of_sample = quotient(plane, g.offset_groups), of_tap = quotient(of_sample, g.samples);
    const Pixel<T> pixel{true, of_sample - of_tap * g.samples, i - plane * g.out_plane, T(0), T(0)};
    const Tap tap = tap_at(g, int(of_tap));
    const int offset_group = int(plane - of_sample * g.offset_groups);
    const T* from = static_cast<const T*>(params.partial_sums) + i;
    SamplingSums<T> totals{};
    for (int64_t part = 0; part < params.parts; ++part, from += 3 * count) {
      totals.add({global_load(from), global_load(from + count), global_load(from + 2 * count)});
    }
    write_gradients<Stored>(g, pixel, tap, offset_group, mask_at<Stored>(g, pixel, tap, offset_group), totals);
  }
}

namespace {

template <class Stored>
void backward_sampling_as(const Problem& problem, const Gradients& gradients, const BackwardPlan& plan,
                          const BackwardWorkspace& workspace, Stream stream) {
  char* partial = static_cast<char*>(workspace.partial_sampling);
  for (int64_t l = 0; l < branch_launches(problem); ++l) {
    const SamplingParams params{geometry_of(problem, l, gradients.branches),
                                plan.pixel_tiles,
                                plan.slices,
                                plan.parts,
                                plan.partial_sampling,
                                gradients.grad_output,
                                partial,
                                plan.wanted.input ? workspace.input_sums : nullptr,
                                plan.wanted.input ? workspace.exponents : nullptr};
    launch(plan.sampling_rows == 8 ? general_backward_sampling<Stored, 8> : general_backward_sampling<Stored, 32>,
           dim3(unsigned(plan.sampling_blocks(l, problem))), dim3(threads), size_t(plan.sampling_shared_bytes), stream,
           params);
    if (!plan.partial_sampling) continue;
    launch(general_add_up_sampling<Stored>, dim3(unsigned(plan.sampling_add_up_blocks)), dim3(threads), 0, stream,
           params);
  }
}

}  // namespace

void backward_sampling(const Problem& problem, const Gradients& gradients, const BackwardPlan& plan,
                       const BackwardWorkspace& workspace, Stream stream) {
  with_element_type(problem.dtype, [&](auto element) {
    backward_sampling_as<decltype(element)>(problem, gradients, plan, workspace, stream);
  });
}

}  // namespace deformwarp::cuda::general
