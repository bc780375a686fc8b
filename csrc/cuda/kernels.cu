// From a plan to its kernels.
#include "general.h"
#include "kernels.h"
#include "planar.h"

namespace deformwarp::cuda {

void forward(const Problem& problem, const Output& output, const Device& device, void* workspace, Stream stream) {
  if (planar::why_not(problem, device).empty()) {
    return planar::forward(problem, output, planar::plan_forward(problem, device), workspace, stream);
  }
  general::forward(problem, output, general::plan_forward(problem, device), workspace, stream);
}

void backward(const Problem& problem, const Gradients& gradients, const Device& device, void* workspace,
              Stream stream) {
  const Wanted wanted = cuda::wanted(problem, gradients);
  if (planar::why_not(problem, device).empty()) {
    return planar::backward(problem, gradients, planar::plan_backward(problem, wanted, device), workspace, stream);
  }
  const general::BackwardPlan plan = general::plan_backward(problem, wanted, device);
  const general::BackwardWorkspace parts(problem, plan, workspace);
  if (plan.wanted.input) general::prepare_input(problem, gradients, plan, parts, stream);
  if (plan.wanted.input || plan.wanted.sampling) {
    general::backward_sampling(problem, gradients, plan, parts, stream);
  }
  if (plan.wanted.input) general::convert_input(problem, gradients, plan, parts, stream);
  if (plan.wanted.weight) general::backward_weight(problem, gradients, plan, parts, stream);
}

}  // namespace deformwarp::cuda
