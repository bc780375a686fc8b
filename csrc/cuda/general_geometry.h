// The problem as the general kernels get it: by value, with up to max_branches branches.
#pragma once

#include "../problem.h"
#include "general_plan.h"

namespace deformwarp::cuda::general {

struct BranchGeometry {
  int64_t dilation_h, dilation_w;
  int64_t padding_h, padding_w;
  const void* offset;  // [N, 2*G*Kh*Kw, Ho, Wo]; a sample is dense
  int64_t offset_stride;
  const void* mask;  // [N, G*Kh*Kw, Ho, Wo] or null; a sample is dense
  int64_t mask_stride;
  void* grad_offset;  // [N, 2*G*Kh*Kw, Ho, Wo] or null
  void* grad_mask;    // [N, G*Kh*Kw, Ho, Wo] or null
};

struct Geometry {
  int64_t samples;  // N
  int height, width, kernel_h, kernel_w;
  int channels, out_channels;  // C, C_out
  int group_channels, group_out_channels, groups;
  int offset_group_channels, offset_groups;
  int64_t out_plane, out_width;
  int64_t stride_h, stride_w;
  int first_branch, branches;  // of this launch
  double scale;
  const void* input;   // [N, C, H, W]
  const void* weight;  // [D, C_out, C/groups, Kh, Kw]
  BranchGeometry branch[max_branches];

  __host__ __device__ int taps() const { return kernel_h * kernel_w; }
  __host__ __device__ int64_t plane() const { return int64_t(height) * width; }
  __host__ __device__ int64_t pixels() const { return samples * out_plane; }
};

// The branches from launch * max_branches on. `grads` is null in the forward.
inline Geometry geometry_of(const Problem& problem, int64_t launch, const BranchGradients* grads = nullptr) {
  Geometry g{};
  g.samples = problem.samples;
  g.height = int(problem.height);
  g.width = int(problem.width);
  g.kernel_h = int(problem.kernel_h);
  g.kernel_w = int(problem.kernel_w);
  g.channels = int(problem.channels);
  g.out_channels = int(problem.out_channels);
  g.group_channels = int(problem.group_channels());
  g.group_out_channels = int(problem.group_out_channels());
  g.groups = int(problem.groups);
  g.offset_group_channels = int(problem.offset_group_channels());
  g.offset_groups = int(problem.offset_groups);
  g.out_plane = problem.out_plane();
  g.out_width = problem.out_width;
  g.stride_h = problem.stride_h;
  g.stride_w = problem.stride_w;
  g.first_branch = int(launch * max_branches);
  g.branches = int(std::min(max_branches, problem.branch_count - g.first_branch));
  g.scale = problem.scale;
  g.input = problem.input;
  g.weight = problem.weight;
  for (int b = 0; b < g.branches; ++b) {
    const int64_t d = g.first_branch + b;
    const Branch& from = problem.branches[d];
    g.branch[b] = {from.dilation_h,
                   from.dilation_w,
                   from.padding_h,
                   from.padding_w,
                   from.offset,
                   from.offset_stride,
                   from.mask,
                   from.mask_stride,
                   grads == nullptr ? nullptr : grads[d].offset,
                   grads == nullptr ? nullptr : grads[d].mask};
  }
  return g;
}

}  // namespace deformwarp::cuda::general
