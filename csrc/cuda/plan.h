// Launch plans for inspection: which path takes a problem, as which launches, with how much memory. A pure function of
// sizes, element type and device; deformwarp.native.cuda_plan() shows it to Python.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "../problem.h"
#include "device.h"
#include "general_plan.h"
#include "planar_plan.h"

namespace deformwarp::cuda {

enum class Path { general, planar };

struct Plan {
  Path path;
  std::string why_not_planar;  // empty on the planar path
  std::vector<Launch> launches;
  int64_t workspace_bytes;
};

inline Plan plan_forward(const Problem& problem, const Device& device) {
  const std::string why_not = planar::why_not(problem, device);
  const auto show = [&](Path path, const auto& plan) {
    return Plan{path, why_not, plan.launches(problem), plan.workspace_bytes(problem)};
  };
  if (why_not.empty()) return show(Path::planar, planar::plan_forward(problem, device));
  return show(Path::general, general::plan_forward(problem, device));
}

inline Plan plan_backward(const Problem& problem, const Wanted& wanted, const Device& device) {
  const std::string why_not = planar::why_not(problem, device);
  const auto show = [&](Path path, const auto& plan) {
    return Plan{path, why_not, plan.launches(problem), plan.workspace_bytes(problem)};
  };
  if (why_not.empty()) return show(Path::planar, planar::plan_backward(problem, wanted, device));
  return show(Path::general, general::plan_backward(problem, wanted, device));
}

}  // namespace deformwarp::cuda
