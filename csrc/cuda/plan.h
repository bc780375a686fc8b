// Launch plans for inspection: which path takes a problem, as which launches, with how much memory. A pure function of
// sizes, element type and device; deformwarp.native.cuda_plan() shows it to Python.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "../problem.h"
#include "device.h"
#include "general_plan.h"

namespace deformwarp::cuda {

enum class Path { general, planar };

struct Plan {
  Path path;
  std::string why_not_planar;  // empty on the planar path
  std::vector<Launch> launches;
  int64_t workspace_bytes;
};

inline Plan plan_forward(const Problem& problem, const Device& device) {
  const general::ForwardPlan plan = general::plan_forward(problem, device);
  return {Path::general, "this version has general kernels only", plan.launches(problem),
          plan.workspace_bytes(problem)};
}

inline Plan plan_backward(const Problem& problem, const Wanted& wanted, const Device& device) {
  const general::BackwardPlan plan = general::plan_backward(problem, wanted, device);
  return {Path::general, "this version has general kernels only", plan.launches(problem),
          plan.workspace_bytes(problem)};
}

}  // namespace deformwarp::cuda
