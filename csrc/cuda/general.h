// The host side of the general kernels: what each stage of a forward and a backward needs.
#pragma once

#include "../problem.h"
#include "device.h"
#include "general_plan.h"

namespace deformwarp::cuda::general {

void forward(const Problem&, const Output&, const ForwardPlan&, void* workspace, Stream);

// Where the parts of a backward's workspace lie.
struct BackwardWorkspace {
  BackwardWorkspace(const Problem& problem, const BackwardPlan& plan, void* workspace) {
    char* next = static_cast<char*>(workspace);
    const auto take = [&next](int64_t bytes) {
      char* part = next;
      next += bytes;
      return static_cast<void*>(part);
    };
    input_sums = static_cast<int64_t*>(take(plan.accumulator_bytes(problem)));
    extrema = static_cast<double*>(take(plan.extrema_bytes(problem)));
    exponents = static_cast<int32_t*>(take(plan.exponent_bytes(problem)));
    partial_sampling = take(plan.partial_sampling_bytes(problem));
    partial_weight = take(plan.partial_weight_bytes(problem));
  }

  int64_t* input_sums;     // [limbs, N, C, H, W]
  double* extrema;         // [launches, 3, N, extrema_parts]
  int32_t* exponents;      // [N]
  void* partial_sampling;  // of one launch, [parts, 3, branches * Kh*Kw, N, G, Ho*Wo] of the arithmetic type
  void* partial_weight;    // [splits, D, C_out, C/groups, Kh, Kw] of the arithmetic type
};

// In this order; the first and the third only where the input's gradient is wanted.
void prepare_input(const Problem&, const Gradients&, const BackwardPlan&, const BackwardWorkspace&, Stream);
void backward_sampling(const Problem&, const Gradients&, const BackwardPlan&, const BackwardWorkspace&, Stream);
void convert_input(const Problem&, const Gradients&, const BackwardPlan&, const BackwardWorkspace&, Stream);

void backward_weight(const Problem&, const Gradients&, const BackwardPlan&, const BackwardWorkspace&, Stream);

}  // namespace deformwarp::cuda::general
