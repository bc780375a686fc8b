// The forward of the planar path, docs/mathematics.md (8). A block has some pixels of one sample and walks its
// channels; samples are computed in the registers where the tensor cores want them, and the sums never leave the
// registers.
#include "cells.h"
#include "launch.h"
#include "planar.h"
#include "planar_float_sampler.h"
#include "planar_forward.h"
#include "planar_half_sampler.h"
#include "planar_taps.h"
#include "quads.h"

namespace deformwarp::cuda::planar {
namespace {

// Weights where the tensor cores' second factor wants them: of one step and eight output channels, 32 threads' pairs.
template <class Sampler>
constexpr uint32_t weight_bytes = sizeof(typename Sampler::Weights);

// One tap: where its offsets start in the block's sample, and the integers of (2) that are its own, as the sampler has
// them.
struct alignas(16) Tap {
  uint64_t offset;  // address of the y offsets in channel 0, [Ho, Wo]
  uint32_t y, x;
};

// Numbers past the last tap stand for the last: they read nothing new, and their weights are zero.
template <class Sampler>
__device__ void write_taps(uint32_t table, const Geometry& g, int sample, int count) {
  using T = typename Sampler::Stored;
  for (int slot = threadIdx.x; slot < count; slot += blockDim.x) {
    const TapNumber tap(g, min(slot, g.total_taps() - 1));
    const T* offset = static_cast<const T*>(g.branch[tap.branch].offset) + sample * g.branch[tap.branch].offset_stride +
                      int64_t(2 * tap.tap(g)) * g.out_plane();
    const uint64_t address = reinterpret_cast<uint64_t>(offset);
    shared_store(table + slot * uint32_t(sizeof(Tap)),
                 make_uint4(uint32_t(address), uint32_t(address >> 32), Sampler::tap_word(tap.shift_y(g)),
                            Sampler::tap_word(tap.shift_x(g))));
  }
}

__device__ __forceinline__ Tap load_tap(uint32_t address) {
  const uint4 words = shared_load<uint4>(address);
  return {uint64_t(words.y) << 32 | words.x, words.z, words.w};
}

// The weights of one channel: [steps, out_tiles, 32] pairs.
template <class Sampler, int out_tiles>
__device__ void write_weights(uint32_t to, const Geometry& g, int channel, int steps) {
  using T = typename Sampler::Stored;
  const T* weight = static_cast<const T*>(g.weight);
  for (int item = threadIdx.x; item < steps * out_tiles * 32; item += blockDim.x) {
    const int thread = item % 32, out_tile = item / 32 % out_tiles, step = item / (32 * out_tiles);
    const int q = out_tile * 8 + thread / 4;
    typename Sampler::Weights pair;
#pragma unroll
    for (int slot = 0; slot < 2; ++slot) {
      const int number = step * step_taps + slot * 4 + thread % 4;
      float value = 0;
      if (number < g.total_taps() && q < g.out_channels) {
        const TapNumber tap(g, number);
        const int64_t row = (int64_t(tap.branch) * g.out_channels + q) * g.channels + channel;
        value = load_element(weight + row * g.taps() + tap.tap(g));
      }
      pair.set(slot, value);
    }
    if constexpr (sizeof(pair) == 16) {
      shared_store(to + item * weight_bytes<Sampler>, bit_cast<uint4>(pair));
    } else {
      shared_store(to + item * weight_bytes<Sampler>, bit_cast<uint2>(pair));
    }
  }
}

template <class Weights>
__device__ __forceinline__ Weights load_weights(uint32_t address) {
  if constexpr (sizeof(Weights) == 16) {
    return bit_cast<Weights>(shared_load<uint4>(address));
  } else {
    return bit_cast<Weights>(shared_load<uint2>(address));
  }
}

// Starts the copy of one channel's plane, [H, W], into shared memory.
template <class T>
__device__ void copy_plane(uint32_t to, const T* from, int pixels) {
  constexpr int pixels_a_copy = 16 / sizeof(T);
  for (int pixel = threadIdx.x * pixels_a_copy; pixel < pixels; pixel += blockDim.x * pixels_a_copy) {
    copy_async<16>(to + pixel * uint32_t(sizeof(T)), from + pixel);
  }
  copy_async_commit();
}

// A thread's four pixels of a unit, in a row. Where the plane has ended the last four stand for them.
struct Pixels {
  int first;      // within the plane
  uint32_t y, x;  // row, and column of the first, as the sampler has them

  template <class Sampler>
  __device__ static Pixels at(const Geometry& g, int pixel) {
    const int first = min(pixel, g.out_plane() - 4), row = first / g.out_width;
    return {first, Sampler::pixel_word(row), Sampler::pixel_word(first - row * g.out_width)};
  }
};

// Offsets of a thread's four pixels at its two taps of a step.
template <class T>
struct Offsets {
  typename Quad<T>::Bits y[2], x[2];

  // `within`: from the tap's y offsets in channel 0 to these.
  __device__ __forceinline__ void load(uint32_t taps, int within, int out_plane) {
#pragma unroll
    for (int slot = 0; slot < 2; ++slot) {
      using Bits = typename Quad<T>::Bits;
      const T* row = reinterpret_cast<const T*>(load_tap(taps + slot * 4 * uint32_t(sizeof(Tap))).offset);
      y[slot] = global_load_streaming(reinterpret_cast<const Bits*>(row + within));
      x[slot] = global_load_streaming(reinterpret_cast<const Bits*>(row + (within + out_plane)));
    }
  }
};

// The samples of one unit and step times their weights. Rows of the product: of tile 0, pixels 0 and 1 of each of eight
// threads; of tile 1, pixels 2 and 3.
template <int out_tiles, class Sampler, class T = typename Sampler::Stored>
__device__ __forceinline__ void add_step(float (&sums)[2][out_tiles][4], const Offsets<T>& offsets, const Pixels& at,
                                         uint32_t taps, uint32_t weights, const Sampler& sampler) {
  typename Sampler::Samples samples[2];
#pragma unroll
  for (int slot = 0; slot < 2; ++slot) {
    const Tap tap = load_tap(taps + slot * 4 * uint32_t(sizeof(Tap)));
    sampler.sample(samples, slot, offsets.y[slot], offsets.x[slot], tap.y + at.y, tap.x + at.x);
  }
#pragma unroll
  for (int out_tile = 0; out_tile < out_tiles; ++out_tile) {
    const auto weight = load_weights<typename Sampler::Weights>(weights + out_tile * 32 * weight_bytes<Sampler>);
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) Sampler::add(sums[tile][out_tile], samples[tile], weight);
  }
}

__device__ __forceinline__ float shared_element(uint32_t at, const float*) { return shared_load<float>(at); }
__device__ __forceinline__ float shared_element(uint32_t at, const Half*) {
  return from_f16(shared_load<uint16_t>(at));
}
__device__ __forceinline__ float shared_element(uint32_t at, const BFloat16*) {
  return from_bf16(shared_load<uint16_t>(at));
}

// Four neighbours of the result.
template <class T>
__device__ __forceinline__ void store_output(const Forward& p, int q, int64_t to, const float4& sums) {
  const float scale = p.geometry.scale, bias = p.bias == nullptr ? 0 : load_element(static_cast<const T*>(p.bias) + q);
  const float4 four =
      make_float4(sums.x * scale + bias, sums.y * scale + bias, sums.z * scale + bias, sums.w * scale + bias);
  global_store(reinterpret_cast<typename Quad<T>::Bits*>(static_cast<T*>(p.output) + to), Quad<T>::narrow(four));
}

// [C_out, Ho, Wo] of one sample, or of a part of its channels.
template <class T, int out_tiles>
__device__ __forceinline__ void store_sums(const Forward& p, const float (&sums)[2][out_tiles][4], int sample,
                                           int pixel) {
  const Geometry& g = p.geometry;
#pragma unroll
  for (int out_tile = 0; out_tile < out_tiles; ++out_tile) {
#pragma unroll
    for (int column = 0; column < 2; ++column) {
      const int q = out_tile * 8 + int(threadIdx.x) % 4 * 2 + column;
      if (q >= g.out_channels) continue;
      const int64_t to = (int64_t(sample) * g.out_channels + q) * g.out_plane() + pixel;
      const float4 four = make_float4(sums[0][out_tile][column], sums[0][out_tile][2 + column],
                                      sums[1][out_tile][column], sums[1][out_tile][2 + column]);
      if (p.partial != nullptr) {
        const int64_t part = int64_t(blockIdx.y) * g.samples * g.out_channels * g.out_plane();
        global_store(reinterpret_cast<float4*>(p.partial + part + to), four);
      } else {
        store_output<T>(p, q, to, four);
      }
    }
  }
}

template <class Sampler, int out_tiles>
__global__ void __launch_bounds__(forward_warps(sizeof(typename Sampler::Stored), out_tiles) * 32, 1)
    planar_forward(const __grid_constant__ Forward p) {
  using T = typename Sampler::Stored;
  const Geometry& g = p.geometry;
  const int thread = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const int tile = blockIdx.x, sample = blockIdx.z, steps = p.steps;
  const CellPlane plane{g.height, g.width};
  const uint32_t cells = shared_base(), pixels = cells + plane.cells() * Sampler::cell_bytes;
  const uint32_t weights = pixels + g.plane() * uint32_t(sizeof(T));
  const uint32_t taps = weights + steps * out_tiles * 32 * weight_bytes<Sampler>;

  const int first_channel = blockIdx.y * p.part_channels;
  const int end_channel = min(first_channel + p.part_channels, g.channels);
  const T* planes = static_cast<const T*>(g.input) + int64_t(sample) * g.channels * g.plane();

  const Sampler sampler(cells, plane);
  const int first_pixel = (tile * warps + warp) * warp_pixels + thread / 4 * 4;
  const Pixels at[units] = {Pixels::at<Sampler>(g, first_pixel), Pixels::at<Sampler>(g, first_pixel + unit_pixels)};
  const uint32_t my_taps = taps + thread % 4 * uint32_t(sizeof(Tap));
  const uint32_t my_weights = weights + thread * weight_bytes<Sampler>;

  copy_plane(pixels, planes + int64_t(first_channel) * g.plane(), g.plane());
  write_taps<Sampler>(taps, g, sample, steps * step_taps);
  block_barrier();

  const auto load = [&](Offsets<T>& offsets, const Pixels& unit, int channel, int step) {
    offsets.load(my_taps + step * step_taps * uint32_t(sizeof(Tap)),
                 channel * 2 * g.taps() * g.out_plane() + unit.first, g.out_plane());
  };
  float sums[units][2][out_tiles][4] = {};
  Offsets<T> offsets[units];
  load(offsets[0], at[0], first_channel, 0);
  for (int channel = first_channel; channel < end_channel; ++channel) {
    copy_async_wait<0>();
    block_barrier();
    write_weights<Sampler, out_tiles>(weights, g, channel, steps);
    Sampler::build(cells, plane, [&](int pixel) {
      return shared_element(pixels + pixel * uint32_t(sizeof(T)), static_cast<const T*>(nullptr));
    });
    block_barrier();
    if (channel + 1 < end_channel) copy_plane(pixels, planes + int64_t(channel + 1) * g.plane(), g.plane());
    for (int step = 0; step < steps; ++step) {
      const uint32_t step_taps_at = my_taps + step * step_taps * uint32_t(sizeof(Tap));
      const uint32_t step_weights_at = my_weights + step * out_tiles * 32 * weight_bytes<Sampler>;
      load(offsets[1], at[1], channel, step);
      add_step(sums[0], offsets[0], at[0], step_taps_at, step_weights_at, sampler);
      // The next step's, or the next channel's: they arrive while its plane is built. The last are loaded in vain.
      const bool last = step + 1 == steps;
      load(offsets[0], at[0], min(channel + last, end_channel - 1), last ? 0 : step + 1);
      add_step(sums[1], offsets[1], at[1], step_taps_at, step_weights_at, sampler);
    }
  }
#pragma unroll
  for (int unit = 0; unit < units; ++unit) {
    const int pixel = first_pixel + unit * unit_pixels;
    if (pixel < g.out_plane()) store_sums<T, out_tiles>(p, sums[unit], sample, pixel);
  }
}

// The sums of some channels each, added in their order.
template <class T>
__global__ void __launch_bounds__(add_up_threads) planar_add_up(const __grid_constant__ Forward p) {
  const Geometry& g = p.geometry;
  const int64_t plane = g.out_plane(), outputs = int64_t(g.samples) * g.out_channels * plane;
  const int64_t first = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
  if (first >= outputs) return;
  float4 sum = make_float4(0, 0, 0, 0);
  for (int part = 0; part < p.parts; ++part) {
    const float4 four = global_load(reinterpret_cast<const float4*>(p.partial + part * outputs + first));
    sum = make_float4(sum.x + four.x, sum.y + four.y, sum.z + four.z, sum.w + four.w);
  }
  store_output<T>(p, int(first / plane % g.out_channels), first, sum);
}

template <class Sampler>
void (*kernel_for(int out_tiles))(Forward) {
  return out_tiles == 3 ? planar_forward<Sampler, 3> : planar_forward<Sampler, 4>;
}

template <class Sampler>
void run(const Problem& problem, const ForwardPlan& plan, const Forward& params, Stream stream) {
  const dim3 grid(unsigned(plan.tiles), unsigned(plan.parts), unsigned(problem.samples));
  launch(kernel_for<Sampler>(out_tiles_of(problem)), grid, dim3(plan.warps * 32), plan.shared_bytes, stream, params);
  if (plan.parts == 1) return;
  launch(planar_add_up<typename Sampler::Stored>, dim3(unsigned(plan.add_up_blocks(problem))), dim3(add_up_threads), 0,
         stream, params);
}

}  // namespace

void forward(const Problem& problem, const Output& output, const ForwardPlan& plan, void* workspace, Stream stream) {
  const Forward params{geometry_of(problem),
                       output.bias,
                       output.output,
                       plan.parts == 1 ? nullptr : static_cast<float*>(workspace),
                       int(plan.parts),
                       int(plan.part_channels),
                       steps_of(int(problem.total_taps()))};
  if (problem.dtype == DType::float32) return run<FloatSampler<float>>(problem, plan, params, stream);
  if (problem.dtype == DType::float16) return run<HalfSampler>(problem, plan, params, stream);
  run<FloatSampler<BFloat16>>(problem, plan, params, stream);
}

}  // namespace deformwarp::cuda::planar
