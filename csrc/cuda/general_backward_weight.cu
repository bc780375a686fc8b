// The weight's gradient (11): a matrix product over all output pixels, in a fixed number of partial sums.

#include "general.h"
#include "general_product.h"
#include "general_sampling.h"
#include "launch.h"

namespace deformwarp::cuda::general {

struct WeightParams {
  Geometry geometry;
  int64_t row_tiles, column_tiles, splits;  // row and column tiles of one weight group
  const void* grad_output;                  // [N, C_out, Ho, Wo]
  void* partial;                            // [splits, D, C_out, C/groups, Kh, Kw] of the arithmetic type
  int64_t weights;                          // elements of the whole weight
};

template <class Stored, int rows>
class WeightBlock {
  using T = Arithmetic<Stored>;
  using Tile = WeightTile<rows>;
  using Shared = WeightShared<T, rows>;
  using Sums = T[Tile::thread_rows][Tile::thread_columns];

 public:
  __device__ __forceinline__ explicit WeightBlock(const WeightParams& params) : params_(params), g_(params.geometry) {
    int64_t rest = blockIdx.x;
    const auto take = [&](int64_t count) {
      const int64_t which = rest % count;
      rest /= count;
      return int(which);
    };
    first_row_ = take(params.row_tiles) * Tile::rows;
    first_column_ = take(params.column_tiles) * Tile::columns;
    weight_group_ = take(g_.groups);
    tap_ = tap_at(g_, take(int64_t(g_.branches) * g_.taps()));
    split_ = rest;
  }

  __device__ __forceinline__ void run() {
    Sums sums;
    set_to_zero(sums);
    const int row = int(threadIdx.x) / Tile::column_threads * Tile::thread_rows;
    const int column = int(threadIdx.x) % Tile::column_threads * Tile::thread_columns;
    const int64_t chunks = (g_.pixels() + weight_pixels - 1) / weight_pixels;
    const int64_t end = (split_ + 1) * chunks / params_.splits;
    for (int64_t chunk = split_ * chunks / params_.splits; chunk < end; ++chunk) {
      const Pixel<T> pixel = pixel_at<T>(g_, chunk * weight_pixels + lane());
      fill_grads(pixel);
      fill_samples(pixel);
      block_barrier();
      add_products(grads() + row * int(sizeof(T)), Shared::grad_pitch, samples() + column * int(sizeof(T)),
                   Shared::sample_pitch, weight_pixels, sums);
      block_barrier();
    }
    write(sums, first_row_ + row, first_column_ + column);
  }

 private:
  static constexpr int at_once = padding<T>;  // elements of one 16-byte write

  __device__ __forceinline__ int lane() const { return int(threadIdx.x) % weight_pixels; }
  __device__ __forceinline__ int warp() const { return int(threadIdx.x) / weight_pixels; }
  __device__ __forceinline__ uint32_t grads() const { return shared_base(); }
  __device__ __forceinline__ uint32_t samples() const { return shared_base() + Shared::grad_bytes; }

  __device__ __forceinline__ void fill_grads(const Pixel<T>& pixel) const {
    const int64_t channel = int64_t(weight_group_) * g_.group_out_channels + first_row_;
    const Stored* from = static_cast<const Stored*>(params_.grad_output) +
                         (pixel.sample * g_.out_channels + channel) * g_.out_plane + pixel.index;
    const int count = pixel.exists ? g_.group_out_channels - first_row_ : 0;
#pragma unroll 2
    for (int row = warp() * at_once; row < Tile::rows; row += warps * at_once) {
      T values[at_once];
#pragma unroll
      for (int i = 0; i < at_once; ++i) {
        values[i] = row + i < count ? load_element(from + (row + i) * g_.out_plane) : T(0);
      }
      store_row(grads() + (lane() * Shared::grad_pitch + row) * int(sizeof(T)), values);
    }
  }

  // A warp's consecutive channels, so that those of one offset group share a cell.
  __device__ __forceinline__ void fill_samples(const Pixel<T>& pixel) const {
    constexpr int of_warp = Tile::columns / warps;
    static_assert(of_warp % at_once == 0);
    const int begin = warp() * of_warp, first = weight_group_ * g_.group_channels;
    const int last = first + g_.group_channels;
    Sampler<Stored> sampler(g_, pixel, tap_, first + first_column_ + begin);
#pragma unroll 1
    for (int column = begin; column < begin + of_warp; column += at_once) {
      T values[at_once];
#pragma unroll
      for (int i = 0; i < at_once; ++i) values[i] = sampler.next(last);
      store_row(samples() + (lane() * Shared::sample_pitch + column) * int(sizeof(T)), values);
    }
  }

  __device__ __forceinline__ void write(const Sums& sums, int row, int column) const {
    T* partial = static_cast<T*>(params_.partial) + split_ * params_.weights;
#pragma unroll
    for (int r = 0; r < Tile::thread_rows; ++r) {
#pragma unroll
      for (int c = 0; c < Tile::thread_columns; ++c) {
        if (row + r >= g_.group_out_channels || column + c >= g_.group_channels) continue;
        global_store(partial + weight_at(g_, tap_, weight_group_, row + r, column + c), sums[r][c]);
      }
    }
  }

  const WeightParams& params_;
  const Geometry& g_;
  int first_row_, first_column_, weight_group_;
  Tap tap_;
  int64_t split_;
};

template <class Stored, int rows>
__global__ void __launch_bounds__(threads, 4) general_backward_weight(const __grid_constant__ WeightParams params) {
  WeightBlock<Stored, rows>(params).run();
}

struct AddUpWeightParams {
  const void* partial;  // [splits, weights] of the arithmetic type
  void* grad_weight;    // [weights]
  int64_t splits, weights;
  double scale;
};

template <class Stored>
__global__ void __launch_bounds__(threads) general_add_up_weight(const __grid_constant__ AddUpWeightParams p) {
  using T = Arithmetic<Stored>;
  for (int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x; i < p.weights; i += int64_t(gridDim.x) * threads) {
    const T* partial = static_cast<const T*>(p.partial) + i;
    T total = T(0);
    for (int64_t s = 0; s < p.splits; ++s) total += global_load(partial + s * p.weights);
    store_element(static_cast<Stored*>(p.grad_weight) + i, total * T(p.scale));
  }
}

namespace {

template <class Stored>
auto weight_kernel(int rows) {
  return rows == 8    ? general_backward_weight<Stored, 8>
         : rows == 32 ? general_backward_weight<Stored, 32>
                      : general_backward_weight<Stored, 64>;
}

template <class Stored>
void backward_weight_as(const Problem& problem, const Gradients& gradients, const BackwardPlan& plan, void* partial,
                        Stream stream) {
  const int64_t weights = problem.total_taps() * problem.out_channels * problem.group_channels();
  for (int64_t l = 0; l < branch_launches(problem); ++l) {
    launch(weight_kernel<Stored>(plan.weight_rows), dim3(unsigned(plan.weight_blocks(l, problem))), dim3(threads),
           size_t(plan.weight_shared_bytes), stream,
           WeightParams{geometry_of(problem, l), plan.weight_row_tiles, plan.weight_column_tiles, plan.splits,
                        gradients.grad_output, partial, weights});
  }
  launch(general_add_up_weight<Stored>, dim3(unsigned(plan.weight_add_up_blocks)), dim3(threads), 0, stream,
         AddUpWeightParams{partial, gradients.weight, plan.splits, weights, problem.scale});
}

}  // namespace

void backward_weight(const Problem& problem, const Gradients& gradients, const BackwardPlan& plan,
                     const BackwardWorkspace& workspace, Stream stream) {
  with_element_type(problem.dtype, [&](auto element) {
    backward_weight_as<decltype(element)>(problem, gradients, plan, workspace.partial_weight, stream);
  });
}

}  // namespace deformwarp::cuda::general
