// The forward (8) of every valid problem: an implicit matrix product over (branch, channels, tap) without a column
// buffer.

#include "general.h"
#include "general_product.h"
#include "general_sampling.h"
#include "launch.h"

namespace deformwarp::cuda::general {

struct ForwardParams {
  Geometry geometry;
  int64_t row_tiles, pixel_tiles, segments;
  bool partial_sums;
  const void* bias;  // [C_out] or null
  void* output;      // [N, C_out, Ho, Wo]
  void* partial;     // [segments, N, C_out, Ho, Wo] of the arithmetic type, of this launch
};

// One step of the depth: up to forward_depth input channels of a weight group at one tap.
struct Step {
  Tap tap;
  int chunk;
};

// Taps follow each other fastest: their weights lie side by side.
__device__ __forceinline__ Step step_at(const Geometry& g, int number, int chunks) {
  const int of_branch = chunks * g.taps();
  const int branch = number / of_branch, rest = number - branch * of_branch;
  const int chunk = rest / g.taps(), k = rest - chunk * g.taps();
  return {{branch, k / g.kernel_w, k % g.kernel_w}, chunk};
}

__device__ __forceinline__ void advance(const Geometry& g, Step& step, int chunks) {
  if (++step.tap.column < g.kernel_w) return;
  step.tap.column = 0;
  if (++step.tap.row < g.kernel_h) return;
  step.tap.row = 0;
  if (++step.chunk < chunks) return;
  step.chunk = 0;
  ++step.tap.branch;
}

template <class Stored, int rows>
class ForwardBlock {
  using T = Arithmetic<Stored>;
  using Tile = ForwardTile<rows>;
  using Shared = ForwardShared<T, rows>;
  using Sums = T[Tile::thread_rows][Tile::thread_columns];

 public:
  __device__ __forceinline__ explicit ForwardBlock(const ForwardParams& params) : params_(params), g_(params.geometry) {
    int64_t rest = blockIdx.x;
    const int tiles_per_group = int(params.row_tiles) / g_.groups;
    const int row_tile = int(rest % params.row_tiles);
    rest /= params.row_tiles;
    weight_group_ = row_tile / tiles_per_group;
    first_row_ = row_tile % tiles_per_group * rows;
    first_pixel_ = rest % params.pixel_tiles * forward_pixels;
    segment_ = rest / params.pixel_tiles;
    pixel_ = pixel_at<T>(g_, first_pixel_ + int(threadIdx.x) % forward_pixels);
    chunks_ = (g_.group_channels + forward_depth - 1) / forward_depth;
  }

  __device__ __forceinline__ void run() {
    if (params_.partial_sums) {
      Sums sums;
      add_segment(segment_, sums);
      for_each_output(sums, [&](int64_t index, int, T sum) {
        const int64_t outputs = g_.pixels() * g_.out_channels;
        global_store(static_cast<T*>(params_.partial) + segment_ * outputs + index, sum);
      });
      return;
    }
    Sums totals;
    set_to_zero(totals);
    for (int64_t segment = 0; segment < params_.segments; ++segment) {
      Sums sums;
      add_segment(segment, sums);
#pragma unroll
      for (int r = 0; r < Tile::thread_rows; ++r) {
#pragma unroll
        for (int c = 0; c < Tile::thread_columns; ++c) totals[r][c] += sums[r][c];
      }
    }
    for_each_output(totals, [&](int64_t index, int channel, T total) {
      const Stored* bias = static_cast<const Stored*>(params_.bias);
      if (bias != nullptr) total += load_element(bias + channel);
      store_element(static_cast<Stored*>(params_.output) + index, total);
    });
  }

 private:
  __device__ __forceinline__ uint32_t weights(int buffer) const {
    return shared_base() + buffer * Shared::buffer_bytes;
  }
  __device__ __forceinline__ uint32_t samples(int buffer) const { return weights(buffer) + Shared::weight_bytes; }

  __device__ __forceinline__ void add_segment(int64_t segment, Sums& sums) {
    set_to_zero(sums);
    const int64_t steps = int64_t(g_.branches) * g_.taps() * chunks_;
    const int begin = int(segment * steps / params_.segments), end = int((segment + 1) * steps / params_.segments);
    Step step = step_at(g_, begin, chunks_);
    const int row = int(threadIdx.x) / Tile::column_threads * Tile::thread_rows;
    const int column = int(threadIdx.x) % Tile::column_threads * Tile::thread_columns;
    for (int s = begin; s < end; ++s) {
      fill(step);
      block_barrier();
      // The other buffer is filled next: no thread gets to this one again before all have passed that barrier.
      add_products(weights(buffer_) + row * int(sizeof(T)), Shared::weight_pitch,
                   samples(buffer_) + column * int(sizeof(T)), forward_pixels, forward_depth, sums);
      buffer_ ^= 1;
      advance(g_, step, chunks_);
    }
  }

  __device__ __forceinline__ void fill(const Step& step) const {
    const int chunk_begin = step.chunk * forward_depth;
    const int count = min(forward_depth, g_.group_channels - chunk_begin);
    fill_samples(step, chunk_begin, count);
    fill_weights(step, chunk_begin, count);
  }

  __device__ __forceinline__ void fill_samples(const Step& step, int chunk_begin, int count) const {
    constexpr int per_thread = forward_depth * forward_pixels / threads;
    const int column = int(threadIdx.x) % forward_pixels, begin = int(threadIdx.x) / forward_pixels * per_thread;
    const int first = weight_group_ * g_.group_channels + chunk_begin;
    Sampler<Stored> sampler(g_, pixel_, step.tap, first + begin);
    uint32_t to = samples(buffer_) + (begin * forward_pixels + column) * int(sizeof(T));
#pragma unroll 4
    for (int i = 0; i < per_thread; ++i, to += forward_pixels * int(sizeof(T))) {
      shared_store(to, sampler.next(first + count));
    }
  }

  __device__ __forceinline__ void fill_weights(const Step& step, int chunk_begin, int count) const {
    constexpr int rows_at_once = threads / forward_depth;
    const int channel = int(threadIdx.x) % forward_depth, first = int(threadIdx.x) / forward_depth;
    const int row_count = min(rows, g_.group_out_channels - first_row_);
    const Stored* from = static_cast<const Stored*>(g_.weight) +
                         weight_at(g_, step.tap, weight_group_, first_row_ + first, chunk_begin + channel);
    const int64_t row_step = int64_t(rows_at_once) * g_.group_channels * g_.taps();
    uint32_t to = weights(buffer_) + (channel * Shared::weight_pitch + first) * int(sizeof(T));
#pragma unroll
    for (int row = first; row < rows; row += rows_at_once) {
      const bool used = row < row_count && channel < count;
      shared_store(to, used ? load_element(from) * T(g_.scale) : T(0));
      from += row_step;
      to += rows_at_once * int(sizeof(T));
    }
  }

  // visit(index in [N, C_out, Ho, Wo], output channel, sum) for the outputs that exist.
  template <class Visit>
  __device__ __forceinline__ void for_each_output(const Sums& sums, const Visit& visit) const {
    const int first_row = first_row_ + int(threadIdx.x) / Tile::column_threads * Tile::thread_rows;
    const int first_column = int(threadIdx.x) % Tile::column_threads * Tile::thread_columns;
#pragma unroll
    for (int c = 0; c < Tile::thread_columns; ++c) {
      const int64_t number = first_pixel_ + first_column + c;
      if (number >= g_.pixels()) return;
      const int64_t sample = quotient(number, g_.out_plane), pixel = number - sample * g_.out_plane;
#pragma unroll
      for (int r = 0; r < Tile::thread_rows; ++r) {
        if (first_row + r >= g_.group_out_channels) break;
        const int channel = weight_group_ * g_.group_out_channels + first_row + r;
        visit((sample * g_.out_channels + channel) * g_.out_plane + pixel, channel, sums[r][c]);
      }
    }
  }

  const ForwardParams& params_;
  const Geometry& g_;
  int weight_group_, first_row_, chunks_;
  int64_t first_pixel_, segment_;
  Pixel<T> pixel_;
  int buffer_ = 0;
};

template <class Stored, int rows>
__global__ void __launch_bounds__(threads, 2) general_forward(const __grid_constant__ ForwardParams params) {
  ForwardBlock<Stored, rows>(params).run();
}

struct AddUpOutputParams {
  const void* partial;  // [segments, N, C_out, Ho, Wo] of the arithmetic type
  const void* bias;     // [C_out] or null
  void* output;         // [N, C_out, Ho, Wo]
  int64_t segments, outputs, out_plane, out_channels;
};

// The sums of a forward whose segments had blocks of their own, in the order in which one block adds them.
template <class Stored>
__global__ void __launch_bounds__(threads) general_add_up_output(const __grid_constant__ AddUpOutputParams p) {
  using T = Arithmetic<Stored>;
  const Stored* bias = static_cast<const Stored*>(p.bias);
  for (int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x; i < p.outputs; i += int64_t(gridDim.x) * threads) {
    const T* partial = static_cast<const T*>(p.partial) + i;
    T total = T(0);
    for (int64_t s = 0; s < p.segments; ++s) total += global_load(partial + s * p.outputs);
    if (bias != nullptr) total += load_element(bias + quotient(i, p.out_plane) % p.out_channels);
    store_element(static_cast<Stored*>(p.output) + i, total);
  }
}

namespace {

template <class Stored>
auto forward_kernel(int rows) {
  return rows == 8    ? general_forward<Stored, 8>
         : rows == 32 ? general_forward<Stored, 32>
                      : general_forward<Stored, 64>;
}

template <class Stored>
void forward_as(const Problem& problem, const Output& output, const ForwardPlan& plan, void* workspace, Stream stream) {
  using T = Arithmetic<Stored>;
  const int64_t outputs = plan.outputs(problem), launches = branch_launches(problem);
  for (int64_t l = 0; l < launches; ++l) {
    launch(forward_kernel<Stored>(plan.rows), dim3(unsigned(plan.blocks())), dim3(threads), size_t(plan.shared_bytes),
           stream,
           ForwardParams{geometry_of(problem, l), plan.row_tiles, plan.pixel_tiles, plan.segments, plan.partial_sums,
                         output.bias, output.output, static_cast<T*>(workspace) + l * plan.segments * outputs});
  }
  if (!plan.partial_sums) return;
  launch(general_add_up_output<Stored>, dim3(unsigned(plan.add_up_blocks)), dim3(threads), 0, stream,
         AddUpOutputParams{workspace, output.bias, output.output, launches * plan.segments, outputs,
                           problem.out_plane(), problem.out_channels});
}

}  // namespace

void forward(const Problem& problem, const Output& output, const ForwardPlan& plan, void* workspace, Stream stream) {
  with_element_type(problem.dtype,
                    [&](auto element) { forward_as<decltype(element)>(problem, output, plan, workspace, stream); });
}

}  // namespace deformwarp::cuda::general
