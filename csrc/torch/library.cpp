// The operators: their schemas, and their CPU kernels.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <tuple>

#include "../cpu/kernels.h"
#include "checks.h"
#include "pages.h"

namespace deformwarp {
namespace {

DType dtype_of(const Tensor& tensor) {
  using torch::headeronly::ScalarType;
  switch (tensor.scalar_type()) {
    case ScalarType::Double:
      return DType::float64;
    case ScalarType::Half:
      return DType::float16;
    case ScalarType::BFloat16:
      return DType::bfloat16;
    default:
      return DType::float32;
  }
}

// A view whose samples are dense needs no copy: slices of one convolution's output, or a stacked tensor, unbound.
Tensor with_dense_samples(const Tensor& tensor) {
  const int64_t area = tensor.size(2) * tensor.size(3);
  const bool dense = (tensor.size(3) == 1 || tensor.stride(3) == 1) &&
                     (tensor.size(2) == 1 || tensor.stride(2) == tensor.size(3)) &&
                     (tensor.size(1) == 1 || tensor.stride(1) == area) &&
                     (tensor.size(0) == 1 || tensor.stride(0) >= area * tensor.size(1));
  return dense ? tensor : torch::stable::contiguous(tensor);
}

// A valid problem together with the tensors that keep its memory alive.
class Bound {
 public:
  explicit Bound(const Arguments& a, double scale)
      : input_(torch::stable::contiguous(a.input)), weight_(torch::stable::contiguous(a.weight)) {
    const int64_t branches = weight_.size(0), taps = weight_.size(3) * weight_.size(4);
    for (int64_t d = 0; d < branches; ++d) {
      offsets_.push_back(with_dense_samples(a.offsets[d]));
      if (!a.masks.empty()) masks_.push_back(with_dense_samples(a.masks[d]));
      branches_.push_back({a.dilation[2 * d], a.dilation[2 * d + 1], a.padding[2 * d], a.padding[2 * d + 1],
                           offsets_[d].const_data_ptr(), offsets_[d].stride(0),
                           a.masks.empty() ? nullptr : masks_[d].const_data_ptr(),
                           a.masks.empty() ? 0 : masks_[d].stride(0)});
    }
    problem = {dtype_of(input_),
               input_.size(0),
               input_.size(1),
               input_.size(2),
               input_.size(3),
               weight_.size(1),
               offsets_[0].size(2),
               offsets_[0].size(3),
               weight_.size(3),
               weight_.size(4),
               a.stride[0],
               a.stride[1],
               input_.size(1) / weight_.size(2),
               offsets_[0].size(1) / (2 * taps),
               branches,
               branches_.data(),
               scale,
               input_.const_data_ptr(),
               weight_.const_data_ptr()};
  }
  Bound(const Bound&) = delete;

  Problem problem;

 private:
  Tensor input_, weight_;
  std::vector<Tensor> offsets_, masks_;
  std::vector<Branch> branches_;
};

Pool torch_threads() {
  const int64_t threads = torch::stable::get_num_threads();
  return {threads, [](int64_t workers, const std::function<void()>& run) {
            torch::stable::parallel_for(0, workers, 1, [&run](int64_t begin, int64_t end) {
              for (int64_t worker = begin; worker < end; ++worker) run();
            });
          }};
}

Tensor warp_cpu(const Tensor& input, const std::vector<Tensor>& offsets, const std::vector<Tensor>& masks,
                const Tensor& weight, const std::optional<Tensor>& bias, const std::vector<int64_t>& stride,
                const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation, double scale) {
  const Arguments arguments{input, offsets, masks, weight, stride, padding, dilation};
  check(arguments);
  if (bias.has_value()) check_bias(*bias, arguments);
  const Bound bound(arguments, scale);
  const Problem& problem = bound.problem;
  Tensor output =
      torch::stable::new_empty(input, {problem.samples, problem.out_channels, problem.out_height, problem.out_width});
  if (problem.samples == 0) return output;
  const std::optional<Tensor> dense_bias =
      bias.has_value() ? std::optional<Tensor>(torch::stable::contiguous(*bias)) : std::nullopt;
  kernels().forward(problem,
                    {dense_bias.has_value() ? dense_bias->const_data_ptr() : nullptr, output.mutable_data_ptr()},
                    torch_threads());
  return output;
}

// Where a gradient is not wanted, a tensor without elements stands for it.
Tensor gradient_like(const Tensor& tensor, bool wanted) {
  if (!wanted) return torch::stable::new_empty(tensor, {0});
  Tensor gradient = torch::stable::new_empty(tensor, tensor.sizes());
  prefer_huge_pages(gradient.mutable_data_ptr(), gradient.numel() * gradient.element_size());
  return gradient;
}

std::tuple<Tensor, std::vector<Tensor>, std::vector<Tensor>, Tensor> warp_backward_cpu(
    const Tensor& grad_output, const Tensor& input, const std::vector<Tensor>& offsets,
    const std::vector<Tensor>& masks, const Tensor& weight, const std::vector<int64_t>& stride,
    const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation, double scale, bool input_wanted,
    bool offsets_wanted, bool masks_wanted, bool weight_wanted) {
  const Arguments arguments{input, offsets, masks, weight, stride, padding, dilation};
  check(arguments);
  check_grad_output(grad_output, arguments);
  const Bound bound(arguments, scale);
  const Tensor dense_grad_output = torch::stable::contiguous(grad_output);

  Tensor grad_input = gradient_like(input, input_wanted);
  Tensor grad_weight = gradient_like(weight, weight_wanted);
  std::vector<Tensor> grad_offsets, grad_masks;
  std::vector<BranchGradients> branches;
  for (size_t d = 0; d < offsets.size(); ++d) {
    grad_offsets.push_back(gradient_like(offsets[d], offsets_wanted));
    if (!masks.empty()) grad_masks.push_back(gradient_like(masks[d], masks_wanted));
    branches.push_back({offsets_wanted ? grad_offsets[d].mutable_data_ptr() : nullptr,
                        masks_wanted && !masks.empty() ? grad_masks[d].mutable_data_ptr() : nullptr});
  }
  if (bound.problem.samples == 0) {
    torch::stable::zero_(grad_weight);
  } else {
    kernels().backward(bound.problem,
                       {dense_grad_output.const_data_ptr(), input_wanted ? grad_input.mutable_data_ptr() : nullptr,
                        weight_wanted ? grad_weight.mutable_data_ptr() : nullptr, branches.data()},
                       torch_threads());
  }
  return {grad_input, grad_offsets, grad_masks, grad_weight};
}

}  // namespace
}  // namespace deformwarp

STABLE_TORCH_LIBRARY(deformwarp, m) {
  m.def(
      "warp(Tensor input, Tensor[] offsets, Tensor[] masks, Tensor weight, Tensor? bias, "
      "int[] stride, int[] padding, int[] dilation, float scale) -> Tensor");
  m.def(
      "warp_backward(Tensor grad_output, Tensor input, Tensor[] offsets, Tensor[] masks, Tensor weight, "
      "int[] stride, int[] padding, int[] dilation, float scale, "
      "bool input_wanted, bool offsets_wanted, bool masks_wanted, bool weight_wanted) "
      "-> (Tensor, Tensor[], Tensor[], Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(deformwarp, CPU, m) {
  m.impl("warp", TORCH_BOX(&deformwarp::warp_cpu));
  m.impl("warp_backward", TORCH_BOX(&deformwarp::warp_backward_cpu));
}
