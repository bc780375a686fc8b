// The planar kernels, by their plans.
#pragma once

#include "device.h"
#include "planar_plan.h"

namespace deformwarp::cuda::planar {

// The parts of the backward's workspace.
struct BackwardWorkspace {
  int64_t* input_sums;
  float* largest;
  int* exponents;
  float* weight_sums;

  BackwardWorkspace(const Problem& problem, const BackwardPlan& plan, void* workspace) {
    char* at = static_cast<char*>(workspace);
    const auto take = [&at](int64_t bytes) {
      char* const begin = at;
      at += bytes;
      return static_cast<void*>(begin);
    };
    input_sums = static_cast<int64_t*>(take(plan.input_sums_bytes(problem)));
    largest = static_cast<float*>(take(plan.largest_bytes(problem)));
    exponents = static_cast<int*>(take(plan.exponents_bytes(problem)));
    weight_sums = static_cast<float*>(take(plan.weight_sums_bytes(problem)));
  }
};

void forward(const Problem&, const Output&, const ForwardPlan&, void* workspace, Stream);
void backward(const Problem&, const Gradients&, const BackwardPlan&, void* workspace, Stream);

}  // namespace deformwarp::cuda::planar
