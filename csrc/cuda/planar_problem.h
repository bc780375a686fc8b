// The problem as the planar kernels get it, by value: every channel has offsets of its own, the stride is 1, there are
// no masks and no weight groups.
#pragma once

#include "../bilinear.h"
#include "../problem.h"

namespace deformwarp::cuda::planar {

constexpr int max_branches = 8;

struct BranchGeometry {
  const void* offset;     // [N, 2*C*K, Ho, Wo]; a sample is dense
  int64_t offset_stride;  // elements from one sample to the next
  int dilation_h, dilation_w, padding_h, padding_w;
};

struct Geometry {
  const void* input;   // [N, C, H, W]
  const void* weight;  // [D, C_out, C, Kh, Kw]
  int samples, channels, height, width;
  int out_channels, out_height, out_width, out_pixels;
  int kernel_h, kernel_w, branches;
  float scale;
  BranchGeometry branch[max_branches];

  DEFORMWARP_HOST_DEVICE int taps() const { return kernel_h * kernel_w; }
  DEFORMWARP_HOST_DEVICE int total_taps() const { return branches * taps(); }
  DEFORMWARP_HOST_DEVICE int plane() const { return height * width; }
  DEFORMWARP_HOST_DEVICE int out_plane() const { return out_pixels; }
};

inline Geometry geometry_of(const Problem& problem) {
  Geometry g{problem.input,
             problem.weight,
             int(problem.samples),
             int(problem.channels),
             int(problem.height),
             int(problem.width),
             int(problem.out_channels),
             int(problem.out_height),
             int(problem.out_width),
             int(problem.out_plane()),
             int(problem.kernel_h),
             int(problem.kernel_w),
             int(problem.branch_count),
             float(problem.scale),
             {}};
  for (int d = 0; d < g.branches; ++d) {
    const Branch& from = problem.branches[d];
    g.branch[d] = {from.offset,          from.offset_stride,  int(from.dilation_h),
                   int(from.dilation_w), int(from.padding_h), int(from.padding_w)};
  }
  return g;
}

}  // namespace deformwarp::cuda::planar
