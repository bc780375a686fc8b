// The planar forward's launch: what a block does, and what it is given.
#pragma once

#include "planar_problem.h"

namespace deformwarp::cuda::planar {

// A unit is what a warp computes at a time: 32 pixels, and of eight taps two a thread. Two units share their weights.
constexpr int unit_pixels = 32, units = 2, warp_pixels = unit_pixels * units, step_taps = 8;
// With 128 registers a thread; where sums are many with 168, or 255 where factors have two parts as well.
DEFORMWARP_HOST_DEVICE constexpr int forward_warps(int element_bytes, int out_tiles) {
  return out_tiles == 3 ? 16 : element_bytes == 4 ? 8 : 12;
}
constexpr int add_up_threads = 256;
constexpr int max_samples = 65535;  // blocks in the grid's third dimension

DEFORMWARP_HOST_DEVICE constexpr int steps_of(int taps) { return (taps + step_taps - 1) / step_taps; }

struct Forward {
  Geometry geometry;
  const void* bias;  // [C_out] or null
  void* output;      // [N, C_out, Ho, Wo]
  float* partial;    // [parts, N, C_out, Ho, Wo]: sums of some channels each; null where one part has them all
  int parts, part_channels;
  int steps;  // of eight taps
};

}  // namespace deformwarp::cuda::planar
