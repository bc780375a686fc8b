// The input's gradient (12) as fixed-point sums: their bounds (13), and what becomes of them.

#include "fixed_point.h"
#include "general.h"
#include "general_sampling.h"
#include "launch.h"

namespace deformwarp::cuda::general {

struct ClearParams {
  int64_t* sums;
  int64_t count;
};

__global__ void __launch_bounds__(threads) general_clear(const __grid_constant__ ClearParams p) {
  for (int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x; i < p.count; i += int64_t(gridDim.x) * threads) {
    global_store(p.sums + i, int64_t(0));
  }
}

enum Extremum { of_weight, of_grad_output, of_mask, extremum_count };

struct ExtremaParams {
  Geometry geometry;
  const void* grad_output;  // [N, C_out, Ho, Wo]
  double* extrema;          // [3, N, parts], of this launch
  int64_t parts;
  int64_t weights;  // elements of the launch's branches, for each sample's blocks to share
};

// The larger one, or NaN.
__device__ __forceinline__ double larger(double a, double b) { return a > b || a != a ? a : b; }

template <class Stored>
__device__ __forceinline__ double largest_of(const Stored* from, int64_t begin, int64_t end, double largest) {
  for (int64_t i = begin + threadIdx.x; i < end; i += threads) {
    largest = larger(std::fabs(double(load_element(from + i))), largest);
  }
  return largest;
}

__device__ __forceinline__ double largest_of_block(double mine) {
  const uint32_t slot = shared_base() + threadIdx.x * 8;
  block_barrier();  // the slots may still be read from the last time
  shared_store(slot, mine);
  for (unsigned half = threads / 2; half > 0; half /= 2) {
    block_barrier();
    if (threadIdx.x < half) {
      mine = larger(mine, shared_load<double>(slot + half * 8));
      shared_store(slot, mine);
    }
  }
  return mine;  // in thread 0
}

// The largest absolute values that sample n meets. Its blocks share the elements.
template <class Stored>
__global__ void __launch_bounds__(threads) general_extrema(const __grid_constant__ ExtremaParams p) {
  const Geometry& g = p.geometry;
  const int64_t sample = blockIdx.x / p.parts, part = blockIdx.x % p.parts;
  const auto share = [&](int64_t count, int64_t which) { return which * count / p.parts; };

  double largest[extremum_count] = {0, 0, 0};
  const int64_t first_weight = int64_t(g.first_branch) * g.out_channels * g.group_channels * g.taps();
  largest[of_weight] = largest_of(static_cast<const Stored*>(g.weight) + first_weight, share(p.weights, part),
                                  share(p.weights, part + 1), 0);
  const int64_t grads = int64_t(g.out_channels) * g.out_plane;
  largest[of_grad_output] = largest_of(static_cast<const Stored*>(p.grad_output) + sample * grads, share(grads, part),
                                       share(grads, part + 1), 0);
  const int64_t masks = int64_t(g.offset_groups) * g.taps() * g.out_plane;
  for (int b = 0; b < g.branches; ++b) {
    const Stored* mask = static_cast<const Stored*>(g.branch[b].mask);
    if (mask == nullptr) {
      largest[of_mask] = larger(largest[of_mask], 1);
    } else {
      largest[of_mask] = largest_of(mask + sample * g.branch[b].mask_stride, share(masks, part), share(masks, part + 1),
                                    largest[of_mask]);
    }
  }
#pragma unroll
  for (int which = 0; which < extremum_count; ++which) {
    const double of_block = largest_of_block(largest[which]);
    if (threadIdx.x == 0) global_store(p.extrema + (which * g.samples + sample) * p.parts + part, of_block);
  }
}

struct ExponentParams {
  const double* extrema;  // [launches, 3, N, parts]
  int32_t* exponents;     // [N]
  int64_t launches, samples, parts;
  double terms;  // |scale| times the number of products in all of a sample's m * gamma
};

// (13): the bound of any pixel's gradient, and of every part of the sum.
template <class T>
__global__ void __launch_bounds__(threads) general_exponents(const __grid_constant__ ExponentParams p) {
  for (int64_t n = int64_t(blockIdx.x) * threads + threadIdx.x; n < p.samples; n += int64_t(gridDim.x) * threads) {
    double bound = p.terms;
    for (int which = 0; which < extremum_count; ++which) {
      double largest = 0;
      for (int64_t launch = 0; launch < p.launches; ++launch) {
        const double* from = p.extrema + ((launch * extremum_count + which) * p.samples + n) * p.parts;
        for (int64_t part = 0; part < p.parts; ++part) largest = larger(largest, global_load(from + part));
      }
      bound *= largest;
    }
    global_store(p.exponents + n, exponent_for<T>(bound));
  }
}

struct ConvertParams {
  const int64_t* sums;       // [limbs, N, C, H, W]
  const int32_t* exponents;  // [N]
  void* grad_input;          // [N, C, H, W]
  int64_t sample_elements, elements;
};

template <class Stored>
__global__ void __launch_bounds__(threads) general_convert_input(const __grid_constant__ ConvertParams p) {
  using T = Arithmetic<Stored>;
  for (int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x; i < p.elements; i += int64_t(gridDim.x) * threads) {
    const int exponent = global_load(p.exponents + quotient(i, p.sample_elements));
    store_element(static_cast<Stored*>(p.grad_input) + i, value_of_fixed<T>(p.sums + i, p.elements, exponent));
  }
}

namespace {

int64_t limb_count(const Problem& problem) { return problem.samples * problem.channels * problem.plane(); }

template <class Stored>
void prepare_input_as(const Problem& problem, const Gradients& gradients, const BackwardPlan& plan,
                      const BackwardWorkspace& workspace, Stream stream) {
  const int64_t parts = plan.extrema_parts, launches = branch_launches(problem);
  launch(general_clear, dim3(unsigned(plan.clear_blocks)), dim3(threads), 0, stream,
         ClearParams{workspace.input_sums, plan.limbs * limb_count(problem)});
  for (int64_t l = 0; l < launches; ++l) {
    const int64_t weights =
        plan.branches_of(l, problem) * problem.taps() * problem.out_channels * problem.group_channels();
    launch(general_extrema<Stored>, dim3(unsigned(problem.samples * parts)), dim3(threads),
           size_t(BackwardPlan::extrema_shared_bytes), stream,
           ExtremaParams{geometry_of(problem, l), gradients.grad_output,
                         workspace.extrema + l * extremum_count * problem.samples * parts, parts, weights});
  }
  const double terms = std::fabs(problem.scale) * double(problem.total_taps()) * double(problem.out_plane()) *
                       double(problem.group_out_channels());
  launch(general_exponents<Arithmetic<Stored>>, dim3(unsigned(plan.exponent_blocks)), dim3(threads), 0, stream,
         ExponentParams{workspace.extrema, workspace.exponents, launches, problem.samples, parts, terms});
}

}  // namespace

void prepare_input(const Problem& problem, const Gradients& gradients, const BackwardPlan& plan,
                   const BackwardWorkspace& workspace, Stream stream) {
  with_element_type(problem.dtype, [&](auto element) {
    prepare_input_as<decltype(element)>(problem, gradients, plan, workspace, stream);
  });
}

void convert_input(const Problem& problem, const Gradients& gradients, const BackwardPlan& plan,
                   const BackwardWorkspace& workspace, Stream stream) {
  with_element_type(problem.dtype, [&](auto element) {
    launch(general_convert_input<decltype(element)>, dim3(unsigned(plan.convert_blocks)), dim3(threads), 0, stream,
           ConvertParams{workspace.input_sums, workspace.exponents, gradients.input, problem.channels * problem.plane(),
                         limb_count(problem)});
  });
}

}  // namespace deformwarp::cuda::general
