// From tensors to problems: what every device's operators have in common.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "checks.h"

namespace deformwarp {

inline DType dtype_of(const Tensor& tensor) {
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
inline Tensor with_dense_samples(const Tensor& tensor) {
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

  // visit(tensor) for all that the problem points to.
  template <class Visit>
  void for_each_tensor(const Visit& visit) const {
    visit(input_);
    visit(weight_);
    for (const Tensor& offset : offsets_) visit(offset);
    for (const Tensor& mask : masks_) visit(mask);
  }

  Problem problem;

 private:
  Tensor input_, weight_;
  std::vector<Tensor> offsets_, masks_;
  std::vector<Branch> branches_;
};

inline Tensor output_of(const Problem& problem, const Tensor& input) {
  return torch::stable::new_empty(input,
                                  {problem.samples, problem.out_channels, problem.out_height, problem.out_width});
}

// By input, offsets, masks and weight.
using GradientTensors = std::tuple<Tensor, std::vector<Tensor>, std::vector<Tensor>, Tensor>;

struct WantedGradients {
  bool input, offsets, masks, weight;
};

// Where gradients go, together with the tensors that hold them: one without elements where a gradient is not wanted.
class BoundGradients {
 public:
  BoundGradients(const Tensor& grad_output, const Arguments& a, const WantedGradients& wanted)
      : grad_output_(torch::stable::contiguous(grad_output)),
        input_(like(a.input, wanted.input)),
        weight_(like(a.weight, wanted.weight)) {
    for (const Tensor& offset : a.offsets) offsets_.push_back(like(offset, wanted.offsets));
    for (const Tensor& mask : a.masks) masks_.push_back(like(mask, wanted.masks));
    for (size_t d = 0; d < offsets_.size(); ++d) {
      branches_.push_back(
          {place(offsets_[d], wanted.offsets), masks_.empty() ? nullptr : place(masks_[d], wanted.masks)});
    }
    gradients = {grad_output_.const_data_ptr(), place(input_, wanted.input), place(weight_, wanted.weight),
                 branches_.data()};
  }
  BoundGradients(const BoundGradients&) = delete;

  const Tensor& grad_output() const { return grad_output_; }
  GradientTensors tensors() const { return {input_, offsets_, masks_, weight_}; }

  // visit(tensor) for all that the gradients are written to.
  template <class Visit>
  void for_each_tensor(const Visit& visit) const {
    visit(input_);
    visit(weight_);
    for (const Tensor& offset : offsets_) visit(offset);
    for (const Tensor& mask : masks_) visit(mask);
  }

  // Of an empty batch.
  void set_to_zero() {
    for_each_tensor([](Tensor tensor) { torch::stable::zero_(tensor); });
  }

  Gradients gradients;

 private:
  static Tensor like(const Tensor& tensor, bool wanted) {
    return wanted ? torch::stable::new_empty(tensor, tensor.sizes()) : torch::stable::new_empty(tensor, {0});
  }
  static void* place(Tensor& tensor, bool wanted) { return wanted ? tensor.mutable_data_ptr() : nullptr; }

  Tensor grad_output_, input_, weight_;
  std::vector<Tensor> offsets_, masks_;
  std::vector<BranchGradients> branches_;
};

// A bias in dense memory, kept alive.
class BoundBias {
 public:
  explicit BoundBias(const std::optional<Tensor>& bias) {
    if (bias.has_value()) bias_ = torch::stable::contiguous(*bias);
  }

  const std::optional<Tensor>& tensor() const { return bias_; }
  const void* pointer() const { return bias_.has_value() ? bias_->const_data_ptr() : nullptr; }

 private:
  std::optional<Tensor> bias_;
};

}  // namespace deformwarp
