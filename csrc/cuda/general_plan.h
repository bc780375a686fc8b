// Launch plans of the general kernels, which take every valid problem.
//
// Sums are cut by the problem's sizes without the batch: a sample's results are bitwise the same alone and in a batch.
// The device decides only whether the parts of a sum are computed by one block or by several, never their order.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "../problem.h"
#include "device.h"
#include "general_tiles.h"

namespace deformwarp::cuda {

struct Launch {
  const char* kernel;
  int64_t blocks;
  int threads;
  int64_t shared_bytes;
};

// Which gradients a backward computes.
struct Wanted {
  bool input, sampling /* offsets or masks */, weight;
};

namespace general {

// Branches go to a kernel by value, so that neither a copy nor a workspace is needed for them: a launch takes this
// many, and sums over more branches take several launches.
constexpr int64_t max_branches = 32;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int64_t arithmetic_bytes(const Problem& problem) { return problem.dtype == DType::float64 ? 8 : 4; }

// The narrowest of the tiles that holds `rows`, or the widest.
inline int tile_rows(int64_t rows, std::initializer_list<int> heights) {
  for (const int height : heights) {
    if (rows <= height) return height;
  }
  return *(heights.end() - 1);
}

// Launches are one-dimensional, and kernels count channels in 32 bits.
inline int64_t checked_blocks(int64_t blocks) {
  constexpr int64_t most = (int64_t(1) << 31) - 1;
  if (blocks > most) {
    throw std::invalid_argument("deformwarp: the problem needs " + std::to_string(blocks) +
                                " blocks of CUDA threads, and a launch has at most " + std::to_string(most));
  }
  return blocks;
}

inline int64_t pixels(const Problem& problem) { return problem.samples * problem.out_plane(); }
inline int64_t branch_launches(const Problem& problem) { return ceil_div(problem.branch_count, max_branches); }

// Threads of a kernel that walks over elements: few enough to be resident together, many enough to fill the chip.
inline int64_t walking_blocks(int64_t elements, const Device& device) {
  return std::clamp<int64_t>(ceil_div(elements, threads), 1, int64_t(device.multiprocessors) * 16);
}

struct ForwardPlan {
  int rows;           // output channels of a block
  int64_t row_tiles;  // of all weight groups
  int64_t pixel_tiles;
  int64_t segments;   // parts of every sum, in each launch
  bool partial_sums;  // each segment has blocks of its own, and a last kernel adds up
  int64_t shared_bytes;
  int64_t add_up_blocks;

  int64_t blocks() const { return row_tiles * pixel_tiles * (partial_sums ? segments : 1); }
  int64_t outputs(const Problem& problem) const { return pixels(problem) * problem.out_channels; }

  int64_t workspace_bytes(const Problem& problem) const {
    return partial_sums ? branch_launches(problem) * segments * outputs(problem) * arithmetic_bytes(problem) : 0;
  }

  std::vector<Launch> launches(const Problem& problem) const {
    std::vector<Launch> list(size_t(branch_launches(problem)),
                             Launch{"general_forward", blocks(), threads, shared_bytes});
    if (partial_sums) list.push_back({"general_add_up_output", add_up_blocks, threads, 0});
    return list;
  }
};

template <template <class, int> class Shared>
int64_t shared_bytes_of(int rows, bool doubles) {
  if (rows == 8) return doubles ? Shared<double, 8>::bytes : Shared<float, 8>::bytes;
  if (rows == 32) return doubles ? Shared<double, 32>::bytes : Shared<float, 32>::bytes;
  return doubles ? Shared<double, 64>::bytes : Shared<float, 64>::bytes;
}

inline ForwardPlan plan_forward(const Problem& problem, const Device& device) {
  ForwardPlan plan{};
  const int64_t group_rows = problem.group_out_channels();
  plan.rows = tile_rows(group_rows, {8, 32, 64});
  plan.row_tiles = problem.groups * ceil_div(group_rows, plan.rows);
  plan.pixel_tiles = ceil_div(pixels(problem), forward_pixels);
  plan.shared_bytes = shared_bytes_of<ForwardShared>(plan.rows, problem.dtype == DType::float64);
  // A segment is long enough to be worth its additions, and there are enough of them for one sample to fill a chip.
  const int64_t steps = problem.total_taps() * ceil_div(problem.group_channels(), forward_depth);
  const bool one_launch = branch_launches(problem) == 1;
  plan.segments = one_launch ? std::clamp<int64_t>(steps / 8, 1, 32) : 1;
  const bool fills = plan.row_tiles * plan.pixel_tiles >= device.multiprocessors;
  plan.partial_sums = !one_launch || (plan.segments > 1 && problem.samples == 1 && !fills);
  plan.add_up_blocks = walking_blocks(plan.outputs(problem), device);
  checked_blocks(plan.blocks());
  return plan;
}

struct BackwardPlan {
  Wanted wanted;

  // What arrives at the samples, and what it means for offsets, masks and input.
  int sampling_rows;  // input channels that are worked on together
  int64_t pixel_tiles;
  int64_t slices;         // of the offset groups, a block each
  int64_t parts;          // of an offset group's channels
  bool partial_sampling;  // each part has blocks of its own, and a last kernel adds up
  int64_t sampling_shared_bytes;
  int64_t sampling_add_up_blocks;

  // The bounds of the fixed-point sums of the input's gradient.
  int64_t extrema_parts;  // blocks that look for the extrema of one sample
  int64_t limbs;          // 64-bit integers of a sum
  int64_t clear_blocks, convert_blocks, exponent_blocks;

  // The weight's gradient.
  int weight_rows;                                // output channels of a block
  int64_t weight_row_tiles, weight_column_tiles;  // of one weight group
  int64_t splits;                                 // of the pixels
  int64_t weight_shared_bytes;
  int64_t weight_add_up_blocks;

  int64_t branches_of(int64_t launch, const Problem& problem) const {
    return std::min(max_branches, problem.branch_count - launch * max_branches);
  }
  int64_t sampling_blocks(int64_t launch, const Problem& problem) const {
    return branches_of(launch, problem) * problem.taps() * pixel_tiles * slices * (partial_sampling ? parts : 1);
  }
  int64_t weight_blocks(int64_t launch, const Problem& problem) const {
    return branches_of(launch, problem) * problem.taps() * weight_row_tiles * weight_column_tiles * problem.groups *
           splits;
  }
  bool samples_wanted() const { return wanted.input || wanted.sampling; }

  // The workspace holds, one behind the other:
  int64_t accumulator_bytes(const Problem& problem) const {  // [limbs, N, C, H, W] int64
    return wanted.input ? limbs * problem.samples * problem.channels * problem.plane() * 8 : 0;
  }
  int64_t extrema_bytes(const Problem& problem) const {  // [launches, 3, N, extrema_parts] float64
    return wanted.input ? branch_launches(problem) * 3 * problem.samples * extrema_parts * 8 : 0;
  }
  int64_t exponent_bytes(const Problem& problem) const {  // [N] int32, to a multiple of 8 bytes
    return wanted.input ? ceil_div(problem.samples, 2) * 8 : 0;
  }
  int64_t partial_weight_bytes(const Problem& problem) const {  // [splits, D, C_out, C/groups, Kh, Kw]
    return wanted.weight ? splits * problem.total_taps() * problem.out_channels * problem.group_channels() *
                               arithmetic_bytes(problem)
                         : 0;
  }
  int64_t partial_sampling_bytes(const Problem& problem) const {  // of one launch, [parts, 3, D, N, G, Kh*Kw, Ho, Wo]
    return partial_sampling ? parts * 3 * branches_of(0, problem) * problem.taps() * problem.offset_groups *
                                  pixels(problem) * arithmetic_bytes(problem)
                            : 0;
  }
  int64_t workspace_bytes(const Problem& problem) const {
    return accumulator_bytes(problem) + extrema_bytes(problem) + exponent_bytes(problem) +
           partial_weight_bytes(problem) + partial_sampling_bytes(problem);
  }

  std::vector<Launch> launches(const Problem& problem) const {
    std::vector<Launch> list;
    const auto each = [&](const auto& launch) {
      for (int64_t l = 0; l < branch_launches(problem); ++l) list.push_back(launch(l));
    };
    if (wanted.input) {
      list.push_back({"general_clear", clear_blocks, threads, 0});
      each([&](int64_t) {
        return Launch{"general_extrema", problem.samples * extrema_parts, threads, extrema_shared_bytes};
      });
      list.push_back({"general_exponents", exponent_blocks, threads, 0});
    }
    for (int64_t l = 0; samples_wanted() && l < branch_launches(problem); ++l) {
      list.push_back({"general_backward_sampling", sampling_blocks(l, problem), threads, sampling_shared_bytes});
      if (partial_sampling) list.push_back({"general_add_up_sampling", sampling_add_up_blocks, threads, 0});
    }
    if (wanted.input) list.push_back({"general_convert_input", convert_blocks, threads, 0});
    if (wanted.weight) {
      each([&](int64_t l) {
        return Launch{"general_backward_weight", weight_blocks(l, problem), threads, weight_shared_bytes};
      });
      list.push_back({"general_add_up_weight", weight_add_up_blocks, threads, 0});
    }
    return list;
  }

  static constexpr int64_t extrema_shared_bytes = threads * 8;
};

inline void plan_sampling(const Problem& problem, const Device& device, BackwardPlan& plan) {
  plan.sampling_rows = tile_rows(problem.group_channels(), {8, 32});
  plan.sampling_shared_bytes = shared_bytes_of<SamplingShared>(plan.sampling_rows, problem.dtype == DType::float64);
  plan.pixel_tiles = ceil_div(pixels(problem), sampling_pixels);
  plan.slices = 1;
  plan.parts = std::clamp<int64_t>(problem.offset_group_channels() / 64, 1, 8);
  const int64_t wanted_slices =
      ceil_div(2 * int64_t(device.multiprocessors), std::max<int64_t>(plan.sampling_blocks(0, problem), 1));
  plan.slices = std::min(wanted_slices, problem.offset_groups);
  plan.partial_sampling = plan.samples_wanted() && plan.parts > 1 && wanted_slices > plan.slices;
  plan.sampling_add_up_blocks =
      walking_blocks(plan.branches_of(0, problem) * problem.taps() * problem.offset_groups * pixels(problem), device);
  checked_blocks(plan.sampling_blocks(0, problem));
}

inline void plan_input(const Problem& problem, const Device& device, BackwardPlan& plan) {
  const int64_t elements = std::max(problem.out_channels, problem.offset_groups * problem.taps()) * problem.out_plane();
  plan.extrema_parts = std::clamp<int64_t>(elements / (16 * threads), 1, 64);
  plan.limbs = problem.dtype == DType::float64 ? 2 : 1;
  plan.clear_blocks = walking_blocks(plan.accumulator_bytes(problem) / 16, device);
  plan.convert_blocks = walking_blocks(problem.samples * problem.channels * problem.plane(), device);
  plan.exponent_blocks = walking_blocks(problem.samples, device);
}

inline void plan_weight(const Problem& problem, const Device& device, BackwardPlan& plan) {
  const int64_t rows = problem.group_out_channels(), columns = problem.group_channels();
  plan.weight_rows = rows <= 8 && columns <= 16 ? 8 : tile_rows(std::max(rows, columns), {32, 64});
  const int64_t tile_columns = plan.weight_rows == 8 ? 16 : plan.weight_rows;
  plan.weight_row_tiles = ceil_div(rows, plan.weight_rows);
  plan.weight_column_tiles = ceil_div(columns, tile_columns);
  plan.weight_shared_bytes = shared_bytes_of<WeightShared>(plan.weight_rows, problem.dtype == DType::float64);
  // Some blocks for every multiprocessor, but each long enough to be worth the partial sum it leaves.
  plan.splits = 1;
  const int64_t useful = ceil_div(pixels(problem), 8 * weight_pixels);
  const int64_t missing = ceil_div(4 * int64_t(device.multiprocessors), plan.weight_blocks(0, problem));
  plan.splits = std::clamp<int64_t>(std::min(missing, useful), 1, 64);
  plan.weight_add_up_blocks =
      walking_blocks(problem.total_taps() * problem.out_channels * problem.group_channels(), device);
  checked_blocks(plan.weight_blocks(0, problem));
}

inline BackwardPlan plan_backward(const Problem& problem, const Wanted& wanted, const Device& device) {
  BackwardPlan plan{};
  plan.wanted = wanted;
  plan_sampling(problem, device, plan);
  plan_input(problem, device, plan);
  plan_weight(problem, device, plan);
  return plan;
}

}  // namespace general
}  // namespace deformwarp::cuda
