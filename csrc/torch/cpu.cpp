// The operators on CPU tensors.
#include "../cpu/kernels.h"
#include "operators.h"
#include "pages.h"

namespace deformwarp {
namespace {

Pool torch_threads() {
  const int64_t threads = torch::stable::get_num_threads();
  return {threads, [](int64_t workers, const std::function<void()>& run) {
            torch::stable::parallel_for(0, workers, 1, [&run](int64_t begin, int64_t end) {
              for (int64_t worker = begin; worker < end; ++worker) run();
            });
          }};
}

}  // namespace

Tensor warp_cpu(const Tensor& input, const std::vector<Tensor>& offsets, const std::vector<Tensor>& masks,
                const Tensor& weight, const std::optional<Tensor>& bias, const std::vector<int64_t>& stride,
                const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation, double scale) {
  const Arguments arguments{input, offsets, masks, weight, stride, padding, dilation};
  check(arguments);
  if (bias.has_value()) check_bias(*bias, arguments);
  const Bound bound(arguments, scale);
  const BoundBias dense_bias(bias);
  Tensor output = output_of(bound.problem, input);
  if (bound.problem.samples == 0) return output;
  kernels().forward(bound.problem, {dense_bias.pointer(), output.mutable_data_ptr()}, torch_threads());
  return output;
}

GradientTensors warp_backward_cpu(const Tensor& grad_output, const Tensor& input, const std::vector<Tensor>& offsets,
                                  const std::vector<Tensor>& masks, const Tensor& weight,
                                  const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                                  const std::vector<int64_t>& dilation, double scale, bool input_wanted,
                                  bool offsets_wanted, bool masks_wanted, bool weight_wanted) {
  const Arguments arguments{input, offsets, masks, weight, stride, padding, dilation};
  check(arguments);
  check_grad_output(grad_output, arguments);
  const Bound bound(arguments, scale);
  BoundGradients results(grad_output, arguments, {input_wanted, offsets_wanted, masks_wanted, weight_wanted});
  if (bound.problem.samples == 0) {
    results.set_to_zero();
  } else {
    results.for_each_tensor([](Tensor gradient) {
      prefer_huge_pages(gradient.mutable_data_ptr(), gradient.numel() * gradient.element_size());
    });
    kernels().backward(bound.problem, results.gradients, torch_threads());
  }
  return results.tensors();
}

}  // namespace deformwarp
