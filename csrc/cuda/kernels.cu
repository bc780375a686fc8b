// From a plan to its kernels.
#include "general.h"
#include "kernels.h"

namespace deformwarp::cuda {

void forward(const Problem& problem, const Output& output, const Device& device, void* workspace, Stream stream) {
  general::forward(problem, output, general::plan_forward(problem, device), workspace, stream);
}

void backward(const Problem& problem, const Gradients& gradients, const Device& device, void* workspace,
              Stream stream) {
  const general::BackwardPlan plan = general::plan_backward(problem, wanted(problem, gradients), device);
  const general::BackwardWorkspace parts(problem, plan, workspace);
  if (plan.wanted.input) general::prepare_input(problem, gradients, plan, parts, stream);
  if (plan.wanted.input || plan.wanted.sampling) {
    general::backward_sampling(problem, gradients, plan, parts, stream);
  }
  if (plan.wanted.input) general::convert_input(problem, gradients, plan, parts, stream);
  if (plan.wanted.weight) general::backward_weight(problem, gradients, plan, parts, stream);
}

}  // namespace deformwarp::cuda
