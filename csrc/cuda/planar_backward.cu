// The backward of the planar path, docs/mathematics.md (9) to (12). A block has one channel and walks over tiles of
// pixels, of one sample after another. Rows of the matrix products are taps and columns are pixels, so that what
// arrives at a sample lies in a register of the thread that computes the sample.
#include "cells.h"
#include "factors.h"
#include "fixed_sums.h"
#include "launch.h"
#include "planar.h"
#include "planar_backward.h"
#include "planar_float_products.h"
#include "planar_float_slopes.h"
#include "planar_half_products.h"
#include "planar_half_slopes.h"
#include "planar_taps.h"
#include "quads.h"

namespace deformwarp::cuda::planar {
namespace {

// Of one tap in one sample: where its offsets are read and their gradients written, y's [Ho, Wo] and behind them x's.
template <class T>
struct TapRows {
  const T* offset;
  T* gradient;
  int gradient_end;  // of the pixels that get one

  // Numbers past the last tap stand for the last: they read nothing new, and write nothing.
  __device__ TapRows(const Backward& p, int number, int sample, int channel) {
    const Geometry& g = p.geometry;
    const TapNumber tap(g, min(number, g.total_taps() - 1));
    const BranchGeometry& from = g.branch[tap.branch];
    const int64_t row = 2 * (int64_t(channel) * g.taps() + tap.tap(g)) * g.out_plane();
    offset = static_cast<const T*>(from.offset) + sample * from.offset_stride + row;
    const bool wanted = number < g.total_taps() && p.grad_offset[tap.branch] != nullptr;
    const int64_t samples_before = int64_t(sample) * 2 * g.channels * g.taps() * g.out_plane();
    gradient = wanted ? static_cast<T*>(p.grad_offset[tap.branch]) + samples_before + row : nullptr;
    gradient_end = wanted ? g.out_plane() : 0;
  }
};

// Offsets of a thread's four pixels at one tap.
template <class T>
struct Offsets {
  using Bits = typename Quad<T>::Bits;
  Bits y, x;

  __device__ __forceinline__ void load(const Backward& p, const T* tap, int pixel) {
    const T* from = element_at(tap, pixel, p.element_bytes);
    y = global_load_streaming(reinterpret_cast<const Bits*>(from));
    x = global_load_streaming(reinterpret_cast<const Bits*>(element_at(from, p.geometry.out_plane(), p.element_bytes)));
  }
};

// Regions of shared memory.
struct Regions {
  uint32_t cells, sums, products, scratch;

  template <class T, class Slopes, class Products>
  __device__ static Regions of(const CellPlane& plane, const Division& division, bool input_wanted) {
    Regions at;
    at.cells = shared_base();
    at.sums = at.cells + round_up_to_16(plane.cells() * Slopes::cell_bytes);
    at.products = at.sums + (input_wanted ? round_up_to_16(plane.cells() * FixedSum<T>::bytes) : 0);
    at.scratch = at.products + Products::Layout::of(division).bytes();
    return at;
  }
};

// The largest of all threads' numbers.
__device__ uint32_t block_maximum(uint32_t value, uint32_t scratch) {
  for (int mask = 16; mask > 0; mask /= 2) value = max(value, shuffle_xor(value, mask));
  if (threadIdx.x % 32 == 0) shared_store(scratch + threadIdx.x / 32 * 4, value);
  block_barrier();
  uint32_t largest = 0;
  for (int warp = 0; warp < int(blockDim.x / 32); ++warp)
    largest = max(largest, shared_load<uint32_t>(scratch + warp * 4));
  return largest;
}

// No |gamma| of (9) in the channel is larger, where no |grad_output| of output channel q is larger than largest(q). By
// all threads of the block.
template <class T, class Largest>
__device__ float bound_of_arriving(const Backward& p, int channel, uint32_t scratch, const Largest& largest_of) {
  const Geometry& g = p.geometry;
  uint32_t largest = 0;
  for (int number = threadIdx.x; number < g.total_taps(); number += blockDim.x) {
    const TapNumber tap(g, number);
    float sum = 0;
    for (int q = 0; q < g.out_channels; ++q) {
      const int64_t row = (int64_t(tap.branch) * g.out_channels + q) * g.channels + channel;
      const float weight = load_element(static_cast<const T*>(g.weight) + row * g.taps() + tap.tap(g));
      sum += fabsf(weight * g.scale) * largest_of(q);
    }
    // What rounding may add to a sum of 32 terms, and to the products' factors. NaN stays the largest as an integer.
    largest = max(largest, bit_cast<uint32_t>(fabsf(sum) * (1 + 0x1p-8f)));
  }
  return bit_cast<float>(block_maximum(largest, scratch));
}

template <class T>
__device__ void clear_sums(uint32_t sums, const CellPlane& plane) {
  const uint32_t words = plane.cells() * FixedSum<T>::bytes / 4;
  for (uint32_t word = threadIdx.x; word < words; word += blockDim.x) shared_store(sums + word * 4, 0u);
}

// Empties the sums into global memory.
template <class T>
__device__ void flush_sums(const Backward& p, uint32_t sums, int sample, int channel) {
  const Geometry& g = p.geometry;
  const int pitch = CellPlane{g.height, g.width}.pitch();
  const int64_t first = (int64_t(sample) * g.channels + channel) * g.plane();
  for (int pixel = threadIdx.x; pixel < g.plane(); pixel += blockDim.x) {
    const int row = pixel / g.width, column = pixel - row * g.width;
    const int64_t sum = FixedSum<T>::take(sums + ((row + 1) * pitch + column + 1) * FixedSum<T>::bytes);
    if (sum != 0) global_add(p.input_sums + first + pixel, sum);
  }
}

// Adds up what the subsets of pixels have, and stores it: [16 * tap_tiles, 8 * out_tiles].
template <class T, int out_tiles>
__device__ void store_weight_sums(const Backward& p, const float (&sums)[out_tiles][4], uint32_t scratch,
                                  const Division& division, int tap_tile, int subset, int segment, int channel) {
  constexpr int columns = out_tiles * 8;
  const int rows = division.tap_tiles * warp_taps, thread = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < out_tiles * 4; ++i) {
    const int row = tap_tile * warp_taps + thread / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + thread % 4 * 2 + i % 2;
    shared_store(scratch + ((subset * rows + row) * columns + column) * 4, sums[i / 4][i % 4]);
  }
  block_barrier();
  float* to = p.weight_sums + (int64_t(segment) * p.geometry.channels + channel) * rows * columns;
  for (int item = threadIdx.x; item < rows * columns; item += blockDim.x) {
    float sum = 0;
    for (int from = 0; from < division.subsets; ++from) {
      sum += shared_load<float>(scratch + (from * rows * columns + item) * 4);
    }
    global_store(to + item, sum);
  }
}

// A thread's four pixels of a tile, in a row: their number in the plane, and row and column as the slopes have them.
template <class Slopes>
struct Pixels {
  int first;
  uint32_t row, column;

  __device__ Pixels(const Backward& p, int pixel)
      : first(pixel),
        row(Slopes::pixel_word(pixel / p.geometry.out_width)),
        column(Slopes::pixel_word(pixel % p.geometry.out_width)) {}

  // To the next tile.
  __device__ __forceinline__ void advance(const Backward& p) {
    first += p.tile_pixels;
    row += Slopes::pixel_word(p.step_rows);
    column += Slopes::pixel_word(p.step_columns);
    const uint32_t width = Slopes::pixel_word(p.geometry.out_width);
    if (column >= width) {
      column -= width;
      row += Slopes::pixel_word(1);
    }
  }
};

template <class T>
struct SlopesOf {
  using type = FloatSlopes<T>;
};
template <>
struct SlopesOf<Half> {
  using type = HalfSlopes;
};

template <class T, int out_tiles>
struct ProductsOf {
  using type = HalfProducts<T, out_tiles>;
};
template <int out_tiles>
struct ProductsOf<float, out_tiles> {
  using type = FloatProducts<out_tiles>;
};

template <class T, int out_tiles, bool input_wanted>
class BackwardBlock {
  using Slopes = typename SlopesOf<T>::type;
  using Products = typename ProductsOf<T, out_tiles>::type;
  using Values = typename Products::Values;

 public:
  __device__ __forceinline__ explicit BackwardBlock(const Backward& p)
      : p_(p),
        g_(p.geometry),
        division_(p.geometry.total_taps(), backward_warps(sizeof(T), out_tiles)),
        plane_{p.geometry.height, p.geometry.width},
        at_(Regions::of<T, Slopes, Products>(plane_, division_, input_wanted)),
        channel_(blockIdx.x % p.geometry.channels),
        tap_tile_(int(threadIdx.x) / 32 / division_.subsets),
        subset_(int(threadIdx.x) / 32 - tap_tile_ * division_.subsets),
        arriving_exponent_(Slopes::arriving_exponent(
            [&] { return bound_of_arriving<T>(p, channel_, at_.scratch, [](int) { return 1.0f; }); })),
        slopes_(at_.cells, plane_, arriving_exponent_),
        words_{words_of(first_tap()), words_of(first_tap() + 8)},
        products_(at_.products, division_, tap_tile_, subset_) {
    if (subset_ == 0) products_.write_weights(g_, channel_, g_.scale * power_of_two(-arriving_exponent_));
  }

  __device__ __forceinline__ void run() {
    const int segment = blockIdx.x / g_.channels;
    const int64_t all_tiles = int64_t(g_.samples) * p_.tiles;
    const int end = int(all_tiles * (segment + 1) / p_.segments);
    if constexpr (input_wanted) clear_sums<T>(at_.sums, plane_);
    for (int number = int(all_tiles * segment / p_.segments); number < end;) {
      const int sample = number / p_.tiles, first = number - sample * p_.tiles;
      const int last = min(p_.tiles, first + end - number);
      add_sample(sample, first, last);
      number += last - first;
    }
    if (p_.weight_sums == nullptr) return;
    block_barrier();
    store_weight_sums<T, out_tiles>(p_, products_.weight_sums, at_.cells, division_, tap_tile_, subset_, segment,
                                    channel_);
  }

 private:
  __device__ __forceinline__ int first_tap() const { return tap_tile_ * warp_taps + int(threadIdx.x) % 32 / 4; }
  __device__ __forceinline__ int first_pixel(int tile) const {
    return tile * division_.tile_pixels() + subset_ * subset_pixels + int(threadIdx.x) % 4 * 4;
  }

  // The integers of (2) that are a tap's own. Numbers past the last tap sample outside the image.
  __device__ uint2 words_of(int number) const {
    constexpr int far = -(1 << 14);
    const bool valid = number < g_.total_taps();
    const TapNumber tap(g_, number);
    return make_uint2(Slopes::tap_word(valid ? tap.shift_y(g_) : far), Slopes::tap_word(valid ? tap.shift_x(g_) : far));
  }

  // Tiles `first` to before `last` of one sample.
  __device__ __forceinline__ void add_sample(int sample, int first, int last) {
    products_.copy(p_, sample, first * p_.tile_pixels);
    const TapRows<T> rows[2] = {{p_, first_tap(), sample, channel_}, {p_, first_tap() + 8, sample, channel_}};
    Pixels<Slopes> pixels(p_, first_pixel(first));
    Offsets<T> offsets[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) offsets[i].load(p_, rows[i].offset, min(pixels.first, g_.out_plane() - 4));

    block_barrier();
    const T* input = static_cast<const T*>(g_.input) + (int64_t(sample) * g_.channels + channel_) * g_.plane();
    Slopes::build(at_.cells, plane_, [&](int pixel) { return load_element(input + pixel); });
    const float unit = input_wanted ? choose_unit(sample, first == 0) : 0.0f;

    int flush = first + p_.tiles_a_flush;
    for (int tile = first; tile < last;) {
      const int end = min(last, tile + p_.tiles_a_copy);
      products_.wait();
      if (end < last) products_.copy(p_, sample, end * p_.tile_pixels);
      for (; tile < end; ++tile) {
        products_.start_tile();
        add_tile(pixels, offsets, rows, unit);
        pixels.advance(p_);
      }
      if constexpr (input_wanted) {
        if (end < flush && end < last) continue;
        flush += p_.tiles_a_flush;
        block_barrier();
        flush_sums<T>(p_, at_.sums, sample, channel_);
      }
    }
  }

  // What grad_input's terms are multiples of, inverse; 0 where no finite number is large enough. Kept for
  // planar_finish() by one block.
  __device__ __forceinline__ float choose_unit(int sample, bool keep) const {
    const float bound = bound_of_arriving<T>(p_, channel_, at_.scratch, [&](int q) {
      return global_load(p_.largest + int64_t(sample) * g_.out_channels + q);
    });
    const int exponent = exponent_for(bound * power_of_two(-arriving_exponent_));
    if (threadIdx.x == 0 && keep) {
      const int bits = exponent == not_finite ? not_finite : exponent - arriving_exponent_ + FixedSum<T>::extra_bits;
      global_store(p_.exponents + int64_t(sample) * g_.channels + channel_, bits);
    }
    return exponent == not_finite ? 0.0f : power_of_two(exponent);
  }

  __device__ __forceinline__ void add_tile(const Pixels<Slopes>& pixels, Offsets<T> (&offsets)[2],
                                           const TapRows<T> (&rows)[2], float unit) {
    float arriving[2][4] = {};
    products_.find_arriving(arriving);
    Values values;
    const int next = min(pixels.first + p_.tile_pixels, g_.out_plane() - 4);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float gamma[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) gamma[k] = arriving[Products::product_of(k)][2 * i + Products::column_of(k)];
      const auto samples =
          slopes_.sample(offsets[i].y, offsets[i].x, words_[i].x + pixels.row, words_[i].y + pixels.column);
      values.set(i, samples.values);
      // Before the stores: in the other order bfloat16 spills on sm_80 and sm_120.
      if constexpr (input_wanted) scatter(samples, gamma, unit);
      store(rows[i], pixels.first, slopes_.times(gamma, samples.dy), slopes_.times(gamma, samples.dx));
      offsets[i].load(p_, rows[i].offset, next);
      warp_barrier();  // else the compiler starts all taps at once, and runs out of registers
    }
    products_.add_to_weight_sums(values);
  }

  using Bits = typename Quad<T>::Bits;

  // (10) at four pixels of a tap
  __device__ __forceinline__ void store(const TapRows<T>& rows, int pixel, Bits by_y, Bits by_x) const {
    const bool wanted = pixel < rows.gradient_end;
    T* const to = element_at(rows.gradient, pixel, p_.element_bytes);
    T* const behind = element_at(to, g_.out_plane(), p_.element_bytes);
    global_store_streaming_if(wanted, reinterpret_cast<Bits*>(to), by_y);
    global_store_streaming_if(wanted, reinterpret_cast<Bits*>(behind), by_x);
  }

  // (12), (7). The pixel above and left of a cell has the cell's number among the sums.
  __device__ __forceinline__ void scatter(const typename Slopes::Samples& samples, const float (&gamma)[4],
                                          float unit) const {
    constexpr uint32_t bytes = FixedSum<T>::bytes;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      // The others would all add to the same few sums.
      if (!samples.touch[k]) continue;
      const uint32_t top = at_.sums + samples.numbers[k] * bytes;
      FixedSum<T>::scatter(top, top + plane_.pitch() * bytes, gamma[k] * unit, Slopes::ly(samples, k),
                           Slopes::lx(samples, k));
    }
  }

  const Backward& p_;
  const Geometry& g_;
  const Division division_;
  const CellPlane plane_;
  const Regions at_;
  const int channel_, tap_tile_, subset_;
  const int arriving_exponent_;  // gammas are in units of 2^it
  const Slopes slopes_;
  const uint2 words_[2];  // y, x
  Products products_;
};

template <class T, int out_tiles, bool input_wanted>
__global__ void __launch_bounds__(backward_warps(sizeof(T), out_tiles) * 32, 1)
    planar_backward(const __grid_constant__ Backward p) {
  BackwardBlock<T, out_tiles, input_wanted>(p).run();
}

// The largest |grad_output| of each sample and output channel, and zeros for the sums of grad_input.
template <class T>
__global__ void __launch_bounds__(extrema_threads) planar_extrema(const __grid_constant__ Backward p) {
  const Geometry& g = p.geometry;
  const T* from = static_cast<const T*>(p.grad_output) + int64_t(blockIdx.x) * g.out_plane();
  uint32_t largest = 0;
  for (int pixel = threadIdx.x; pixel < g.out_plane(); pixel += blockDim.x) {
    // As integers, so that a NaN is the largest.
    largest = max(largest, bit_cast<uint32_t>(fabsf(load_element(from + pixel))));
  }
  largest = block_maximum(largest, shared_base());
  if (threadIdx.x == 0) global_store(p.largest + blockIdx.x, bit_cast<float>(largest));
  const int64_t sums = int64_t(g.samples) * g.channels * g.plane();
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < sums; i += int64_t(gridDim.x) * blockDim.x) {
    global_store(p.input_sums + i, int64_t(0));
  }
}

// Turns sums into gradients.
template <class T>
__global__ void __launch_bounds__(finish_threads) planar_finish(const __grid_constant__ Backward p) {
  const Geometry& g = p.geometry;
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, step = int64_t(gridDim.x) * blockDim.x;
  const int64_t pixels = p.grad_input == nullptr ? 0 : int64_t(g.samples) * g.channels * g.plane();
  for (int64_t i = first; i < pixels; i += step) {
    const int exponent = global_load(p.exponents + i / g.plane());
    const double sum = double(global_load(p.input_sums + i));
    const float value = exponent == not_finite ? bit_cast<float>(0x7fc00000u) : float(ldexp(sum, -exponent));
    store_element(static_cast<T*>(p.grad_input) + i, value);
  }
  const int rows = tap_tiles_of(g.total_taps()) * warp_taps, columns = p.out_tiles * 8;
  const int64_t weights = p.grad_weight == nullptr ? 0 : int64_t(g.total_taps()) * g.channels * g.out_channels;
  for (int64_t i = first; i < weights; i += step) {  // [D, C_out, C, Kh*Kw]
    const int tap = int(i % g.taps()), channel = int(i / g.taps() % g.channels);
    const int q = int(i / g.taps() / g.channels % g.out_channels);
    const int branch = int(i / g.taps() / g.channels / g.out_channels);
    float sum = 0;
    for (int segment = 0; segment < p.segments; ++segment) {
      const int64_t block = int64_t(segment) * g.channels + channel;
      sum += global_load(p.weight_sums + (block * rows + tap * g.branches + branch) * columns + q);
    }
    store_element(static_cast<T*>(p.grad_weight) + i, g.scale * SlopesOf<T>::type::unit * sum);
  }
}

template <class T, bool input_wanted>
void (*kernel_for(int out_tiles))(Backward) {
  return out_tiles == 3 ? planar_backward<T, 3, input_wanted> : planar_backward<T, 4, input_wanted>;
}

template <class T>
void run(const Problem& problem, const BackwardPlan& plan, const Backward& params, Stream stream) {
  const Wanted& wanted = plan.wanted;
  if (!wanted.input && !wanted.sampling && !wanted.weight) return;
  if (wanted.input) {
    launch(planar_extrema<T>, dim3(unsigned(problem.samples * problem.out_channels)), dim3(extrema_threads),
           extrema_threads / 32 * 4, stream, params);
  }
  const int out_tiles = out_tiles_of(problem);
  launch(wanted.input ? kernel_for<T, true>(out_tiles) : kernel_for<T, false>(out_tiles),
         dim3(unsigned(plan.segments * problem.channels)), dim3(plan.warps * 32), plan.shared_bytes, stream, params);
  if (plan.finish_blocks > 0) {
    launch(planar_finish<T>, dim3(unsigned(plan.finish_blocks)), dim3(finish_threads), 0, stream, params);
  }
}

}  // namespace

void backward(const Problem& problem, const Gradients& gradients, const BackwardPlan& plan, void* workspace,
              Stream stream) {
  const BackwardWorkspace parts(problem, plan, workspace);
  Backward params{};
  params.geometry = geometry_of(problem);
  params.grad_output = gradients.grad_output;
  params.grad_input = gradients.input;
  params.grad_weight = gradients.weight;
  params.out_tiles = out_tiles_of(problem);
  params.tiles = int(plan.tiles);
  params.segments = int(plan.segments);
  params.tile_pixels = int(plan.tile_pixels);
  params.tiles_a_copy = int(plan.tiles_a_copy);
  params.element_bytes = int(element_bytes(problem));
  params.step_rows = int(plan.tile_pixels / problem.out_width);
  params.step_columns = int(plan.tile_pixels % problem.out_width);
  params.tiles_a_flush =
      int(most_terms / (plan.tile_pixels * plan.tiles_a_copy * problem.total_taps()) * plan.tiles_a_copy);
  params.largest = parts.largest;
  params.input_sums = parts.input_sums;
  params.exponents = parts.exponents;
  params.weight_sums = plan.wanted.weight ? parts.weight_sums : nullptr;
  for (int64_t d = 0; d < problem.branch_count; ++d) params.grad_offset[d] = gradients.branches[d].offset;
  if (problem.dtype == DType::float32) return run<float>(problem, plan, params, stream);
  if (problem.dtype == DType::float16) return run<Half>(problem, plan, params, stream);
  run<BFloat16>(problem, plan, params, stream);
}

}  // namespace deformwarp::cuda::planar
