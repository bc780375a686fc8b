// The problem as plain data. Kernels take this struct and nothing else: no tensor, no torch, no CUDA.
#pragma once

#include <cstdint>

namespace deformwarp {

enum class DType { float64, float32, float16, bfloat16 };

// One of the D dilated samplings whose results are summed.
struct Branch {
  int64_t dilation_h, dilation_w;
  int64_t padding_h, padding_w;
  const void* offset;     // [N, 2*G*Kh*Kw, Ho, Wo], (dy, dx) interleaved; a sample is dense
  int64_t offset_stride;  // elements from one sample to the next
  const void* mask;       // [N, G*Kh*Kw, Ho, Wo] or null; a sample is dense
  int64_t mask_stride;    // elements from one sample to the next
};

struct Problem {
  DType dtype;                                  // of every tensor
  int64_t samples, channels, height, width;     // N, C, H, W
  int64_t out_channels, out_height, out_width;  // C_out, Ho, Wo
  int64_t kernel_h, kernel_w;                   // Kh, Kw
  int64_t stride_h, stride_w;
  int64_t groups, offset_groups;  // of the weight; of the offsets (G)
  int64_t branch_count;           // D
  const Branch* branches;         // [D]
  double scale;
  const void* input;   // [N, C, H, W]
  const void* weight;  // [D, C_out, C/groups, Kh, Kw]

  int64_t taps() const { return kernel_h * kernel_w; }
  int64_t total_taps() const { return branch_count * taps(); }
  int64_t plane() const { return height * width; }
  int64_t out_plane() const { return out_height * out_width; }
  int64_t group_channels() const { return channels / groups; }
  int64_t group_out_channels() const { return out_channels / groups; }
  int64_t offset_group_channels() const { return channels / offset_groups; }
};

// Where the forward result goes, and what is added to it.
struct Output {
  const void* bias;  // [C_out] or null
  void* output;      // [N, C_out, Ho, Wo]
};

// Where the gradients of one branch go; null where one is not wanted.
struct BranchGradients {
  void* offset;  // [N, 2*G*Kh*Kw, Ho, Wo]
  void* mask;    // [N, G*Kh*Kw, Ho, Wo]
};

struct Gradients {
  const void* grad_output;          // [N, C_out, Ho, Wo]
  void* input;                      // [N, C, H, W] or null
  void* weight;                     // [D, C_out, C/groups, Kh, Kw] or null
  const BranchGradients* branches;  // [D]
};

// docs/mathematics.md (1): the number of output positions along one axis.
constexpr int64_t output_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  const int64_t span = size + 2 * padding - dilation * (kernel - 1) - 1;
  return span < 0 ? 0 : span / stride + 1;
}

}  // namespace deformwarp
