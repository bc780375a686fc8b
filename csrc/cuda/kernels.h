// The CUDA kernels as the glue sees them: pointers, a struct and a stream, never a tensor.
#pragma once

#include "../problem.h"
#include "device.h"
#include "plan.h"

namespace deformwarp::cuda {

// All pointers are of the current device. `workspace` has plan_forward(...).workspace_bytes, and a 16-byte boundary.
// Nothing is synchronised or allocated. Throws std::runtime_error where a kernel cannot be launched.
void forward(const Problem&, const Output&, const Device&, void* workspace, Stream);

// Likewise, with plan_backward(problem, wanted(gradients), device).workspace_bytes.
void backward(const Problem&, const Gradients&, const Device&, void* workspace, Stream);

// What there is a place for.
inline Wanted wanted(const Problem& problem, const Gradients& gradients) {
  bool sampling = false;
  for (int64_t d = 0; d < problem.branch_count; ++d) {
    sampling |= gradients.branches[d].offset != nullptr || gradients.branches[d].mask != nullptr;
  }
  return {gradients.input != nullptr, sampling, gradients.weight != nullptr};
}

}  // namespace deformwarp::cuda
