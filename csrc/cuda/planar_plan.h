// Launch plans of the planar kernels, and what they cannot take.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "cell_plane.h"
#include "general_plan.h"
#include "planar_backward.h"
#include "planar_forward.h"

namespace deformwarp::cuda::planar {

using general::ceil_div;

// HalfSampler and HalfSlopes have smaller ones.
inline int64_t cell_bytes(const Problem& problem) { return problem.dtype == DType::float16 ? 8 : 16; }

// Blocks of a launch, one on each multiprocessor at a time, take as long as the busiest multiprocessor.
inline int64_t rounds(int64_t blocks, const Device& device) { return ceil_div(blocks, device.multiprocessors); }

// Of eight output channels. There are kernels for three, and for four.
inline int out_tiles_of(const Problem& problem) { return problem.out_channels <= 24 ? 3 : 4; }
inline int64_t element_bytes(const Problem& problem) { return problem.dtype == DType::float32 ? 4 : 2; }
// High and low part of a float32, or one number.
inline int64_t factor_bytes(const Problem& problem) { return problem.dtype == DType::float32 ? 8 : 4; }

struct ForwardPlan {
  int warps;
  int64_t tiles;  // of a sample's pixels
  int64_t parts, part_channels;
  int64_t shared_bytes;

  int64_t blocks(const Problem& problem) const { return tiles * problem.samples * parts; }
  int64_t outputs(const Problem& problem) const { return problem.samples * problem.out_channels * problem.out_plane(); }
  int64_t workspace_bytes(const Problem& problem) const { return parts == 1 ? 0 : parts * outputs(problem) * 4; }
  int64_t add_up_blocks(const Problem& problem) const { return ceil_div(outputs(problem) / 4, add_up_threads); }

  std::vector<Launch> launches(const Problem& problem) const {
    std::vector<Launch> list{{"planar_forward", blocks(problem), warps * 32, shared_bytes}};
    if (parts > 1) list.push_back({"planar_add_up", add_up_blocks(problem), add_up_threads, 0});
    return list;
  }
};

inline int64_t forward_shared_bytes(const Problem& problem) {
  const int64_t steps = steps_of(int(problem.total_taps()));
  const CellPlane plane{int(problem.height), int(problem.width)};
  return plane.cells() * cell_bytes(problem) + problem.plane() * element_bytes(problem) +
         steps * out_tiles_of(problem) * 32 * 2 * factor_bytes(problem) + steps * step_taps * 16;
}

// One sample may be cut by channels too, at the price of a second launch that adds up.
inline ForwardPlan plan_forward(const Problem& problem, const Device& device) {
  // What a block spends on a channel's plane, in pixels of all taps: 100 rows of cells against 45 taps of samples.
  constexpr int64_t plane_cost = 128;
  ForwardPlan best{};
  int64_t least = 0;
  for (int warps = forward_warps(int(element_bytes(problem)), out_tiles_of(problem)); warps >= 4; --warps) {
    for (int64_t parts = 1; parts <= (problem.samples == 1 ? problem.channels : 1); ++parts) {
      const int64_t channels = ceil_div(problem.channels, parts);
      if (ceil_div(problem.channels, channels) != parts) continue;
      const int64_t tiles = ceil_div(problem.out_plane(), warps * warp_pixels);
      const int64_t cost =
          rounds(tiles * problem.samples * parts, device) * channels * (warps * warp_pixels + plane_cost);
      if (least != 0 && cost >= least) continue;
      least = cost;
      best = {warps, tiles, parts, channels, forward_shared_bytes(problem)};
    }
  }
  return best;
}

inline Division division_of(const Problem& problem) {
  return {int(problem.total_taps()), backward_warps(int(element_bytes(problem)), out_tiles_of(problem))};
}

struct BackwardPlan {
  Wanted wanted;
  int warps;
  int64_t tile_pixels;
  int64_t tiles_a_copy;
  int64_t tiles;     // of a sample's pixels
  int64_t segments;  // of all tiles, a block each for every channel
  int64_t shared_bytes;
  int64_t finish_blocks;

  // The workspace holds, one behind the other:
  int64_t input_sums_bytes(const Problem& problem) const {  // [N, C, H, W] int64
    return wanted.input ? problem.samples * problem.channels * problem.plane() * 8 : 0;
  }
  int64_t largest_bytes(const Problem& problem) const {  // [N, C_out] float32
    return wanted.input ? problem.samples * problem.out_channels * 4 : 0;
  }
  int64_t exponents_bytes(const Problem& problem) const {  // [N, C] int32
    return wanted.input ? problem.samples * problem.channels * 4 : 0;
  }
  int64_t weight_sums_bytes(const Problem& problem) const {  // [segments, C, 16 * tap_tiles, 8 * out_tiles] float32
    if (!wanted.weight) return 0;
    return segments * problem.channels * tap_tiles_of(int(problem.total_taps())) * warp_taps * out_tiles_of(problem) *
           8 * 4;
  }
  int64_t workspace_bytes(const Problem& problem) const {
    return input_sums_bytes(problem) + largest_bytes(problem) + exponents_bytes(problem) + weight_sums_bytes(problem);
  }

  std::vector<Launch> launches(const Problem& problem) const {
    std::vector<Launch> list;
    if (!wanted.input && !wanted.sampling && !wanted.weight) return list;
    if (wanted.input) {
      list.push_back({"planar_extrema", problem.samples * problem.out_channels, extrema_threads, extrema_threads / 8});
    }
    list.push_back({"planar_backward", segments * problem.channels, warps * 32, shared_bytes});
    if (finish_blocks > 0) list.push_back({"planar_finish", finish_blocks, finish_threads, 0});
    return list;
  }
};

inline int64_t backward_shared_bytes(const Problem& problem, bool input_wanted) {
  const Division division = division_of(problem);
  const CellPlane plane{int(problem.height), int(problem.width)};
  const bool four = out_tiles_of(problem) == 4;
  const auto bytes_of = [&](auto three_layout, auto four_layout) {
    return four ? four_layout.of(division).bytes() : three_layout.of(division).bytes();
  };
  const bool is_float = problem.dtype == DType::float32;
  const int64_t products = is_float ? bytes_of(FloatProductsLayout<3>{}, FloatProductsLayout<4>{})
                                    : bytes_of(HalfProductsLayout<3>{}, HalfProductsLayout<4>{});
  const int64_t sums = input_wanted ? round_up_to_16(uint32_t(plane.cells() * (is_float ? 8 : 4))) : 0;
  const int64_t cells = round_up_to_16(uint32_t(plane.cells() * cell_bytes(problem)));
  const int64_t loop = cells + sums + products + division.warps() * 4;
  const int64_t weight_sums = division.subsets * division.tap_tiles * warp_taps * out_tiles_of(problem) * 8 * 4;
  return std::max(loop, weight_sums);
}

inline BackwardPlan plan_backward(const Problem& problem, const Wanted& wanted, const Device& device) {
  const Division division = division_of(problem);
  BackwardPlan plan{};
  plan.wanted = wanted;
  plan.warps = division.warps();
  plan.tile_pixels = division.tile_pixels();
  plan.tiles_a_copy = problem.dtype == DType::float32 ? 1 : division.tiles_a_copy();
  plan.tiles = ceil_div(problem.out_plane(), plan.tile_pixels);
  // One round of blocks; a segment shorter than some tiles would spend its time on its plane.
  const int64_t useful = ceil_div(plan.tiles * problem.samples, 4);
  plan.segments = std::clamp<int64_t>(device.multiprocessors / problem.channels, 1, useful);
  plan.shared_bytes = backward_shared_bytes(problem, wanted.input);
  const int64_t results = (wanted.input ? problem.samples * problem.channels * problem.plane() : 0) +
                          (wanted.weight ? problem.total_taps() * problem.channels * problem.out_channels : 0);
  plan.finish_blocks = std::min<int64_t>(ceil_div(results, finish_threads), device.multiprocessors * 8);
  return plan;
}

// HalfSampler takes an offset of 500 pixels to lead out of the image.
inline bool far_offsets_lead_outside(const Problem& problem) {
  constexpr int64_t far = 500;
  for (int64_t d = 0; d < problem.branch_count; ++d) {
    const Branch& b = problem.branches[d];
    if (problem.height + b.padding_h > far || problem.width + b.padding_w > far) return false;
    const int64_t last_row = problem.out_height + b.dilation_h * (problem.kernel_h - 1) - b.padding_h;
    const int64_t last_column = problem.out_width + b.dilation_w * (problem.kernel_w - 1) - b.padding_w;
    if (last_row > far || last_column > far) return false;
  }
  return true;
}

// Why the planar kernels cannot take the problem, or nothing.
inline std::string why_not(const Problem& problem, const Device& device) {
  if (problem.dtype == DType::float64) return "tensor cores do not multiply float64 with these kernels";
  if (device.architecture < 80) return "tensor cores before sm_80 have no TF32";
  if (problem.offset_groups != problem.channels) return "channels share their offsets";
  if (problem.groups != 1) return "the weight has groups";
  if (problem.stride_h != 1 || problem.stride_w != 1) return "the stride is not 1";
  if (problem.out_channels > 32) return "there are more than 32 output channels";
  if (problem.samples > max_samples) return "there are more than " + std::to_string(max_samples) + " samples";
  if (problem.total_taps() > max_taps) return "there are more than " + std::to_string(max_taps) + " taps";
  if (problem.branch_count > max_branches) return "there are more than " + std::to_string(max_branches) + " dilations";
  if (problem.samples * problem.channels * problem.plane() > INT32_MAX ||
      problem.channels * 2 * problem.taps() * problem.out_plane() > INT32_MAX ||
      problem.out_channels * problem.out_plane() > INT32_MAX || problem.samples * problem.out_plane() > INT32_MAX) {
    return "indices need 64 bits";
  }
  if (problem.out_width % 4 != 0) return "the output's width is no multiple of 4";
  if (problem.plane() * element_bytes(problem) % 16 != 0) return "a plane of the input is no multiple of 16 bytes";
  const auto unaligned = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 != 0; };
  if (unaligned(problem.input)) return "the input does not start at a multiple of 16 bytes";
  if (problem.dtype == DType::float16 && !far_offsets_lead_outside(problem))
    return "the image is too large for float16";
  for (int64_t d = 0; d < problem.branch_count; ++d) {
    const Branch& branch = problem.branches[d];
    if (branch.mask != nullptr) return "there are masks";
    if (unaligned(branch.offset) || branch.offset_stride % 4 != 0) {
      return "offsets do not start at multiples of 16 bytes";
    }
  }
  const int64_t bytes = std::max(forward_shared_bytes(problem), backward_shared_bytes(problem, true));
  if (bytes > device.shared_bytes_per_block) {
    return "a plane needs " + std::to_string(bytes) + " bytes of shared memory, and a block has " +
           std::to_string(device.shared_bytes_per_block);
  }
  return "";
}

}  // namespace deformwarp::cuda::planar
