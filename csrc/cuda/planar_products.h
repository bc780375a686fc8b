// The planar backward's matrix products, docs/mathematics.md (9) and (11): what both kinds of them share.
#pragma once

#include "element.h"
#include "planar_backward.h"
#include "planar_taps.h"

namespace deformwarp::cuda::planar {

// Within an instruction's fragments.
__device__ __forceinline__ int fragment_row() { return int(threadIdx.x) % 32 / 4; }
__device__ __forceinline__ int fragment_quad() { return int(threadIdx.x) % 4; }

// One weight of a channel; 0 past the last tap or output channel.
template <class T>
__device__ float weight_at(const Geometry& g, int number, int q, int channel) {
  if (number >= g.total_taps() || q >= g.out_channels) return 0;
  const TapNumber tap(g, number);
  const int64_t row = (int64_t(tap.branch) * g.out_channels + q) * g.channels + channel;
  return load_element(static_cast<const T*>(g.weight) + row * g.taps() + tap.tap(g));
}

// A thread's part of a copy of grad_output: four pixels in a row of every so many output channels.
struct CopyPart {
  int first_q, step_q, pixel;

  __device__ CopyPart(const Division& division, int pixels)
      : first_q(threadIdx.x / (pixels / 4)),
        step_q(division.warps() * 32 / (pixels / 4)),  // all threads of the block have so many rows at once
        pixel(int(threadIdx.x) % (pixels / 4) * 4) {}

  // Starts the copy, zeros where there are no pixels or channels, of each output channel q to target(q).
  template <class T, int out_tiles, class Target>
  __device__ __forceinline__ void copy(const Backward& p, int sample, int first_pixel, const Target& target) const {
    const Geometry& g = p.geometry;
    constexpr int quad_bytes = sizeof(T) * 4;
    const T* from = static_cast<const T*>(p.grad_output) + int64_t(sample) * g.out_channels * g.out_plane();
    const int at = first_pixel + pixel;
#pragma unroll 1
    for (int q = first_q; q < out_tiles * 8; q += step_q) {
      const bool valid = q < g.out_channels && at < g.out_plane();
      copy_async<quad_bytes>(target(q), from + (valid ? q * g.out_plane() + at : 0), valid);
    }
    copy_async_commit();
  }
};

}  // namespace deformwarp::cuda::planar
