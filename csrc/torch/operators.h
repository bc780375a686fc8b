// The operators' schemas, and the functions behind them.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "binding.h"

namespace deformwarp {

#define DEFORMWARP_WARP_SCHEMA(name)                                                    \
  name "(Tensor input, Tensor[] offsets, Tensor[] masks, Tensor weight, Tensor? bias, " \
       "int[] stride, int[] padding, int[] dilation, float scale) -> Tensor"

#define DEFORMWARP_WARP_BACKWARD_SCHEMA(name)                                                 \
  name "(Tensor grad_output, Tensor input, Tensor[] offsets, Tensor[] masks, Tensor weight, " \
       "int[] stride, int[] padding, int[] dilation, float scale, "                           \
       "bool input_wanted, bool offsets_wanted, bool masks_wanted, bool weight_wanted) "      \
       "-> (Tensor, Tensor[], Tensor[], Tensor)"

Tensor warp_cpu(const Tensor& input, const std::vector<Tensor>& offsets, const std::vector<Tensor>& masks,
                const Tensor& weight, const std::optional<Tensor>& bias, const std::vector<int64_t>& stride,
                const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation, double scale);

GradientTensors warp_backward_cpu(const Tensor& grad_output, const Tensor& input, const std::vector<Tensor>& offsets,
                                  const std::vector<Tensor>& masks, const Tensor& weight,
                                  const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                                  const std::vector<int64_t>& dilation, double scale, bool input_wanted,
                                  bool offsets_wanted, bool masks_wanted, bool weight_wanted);

Tensor warp_cuda(const Tensor& input, const std::vector<Tensor>& offsets, const std::vector<Tensor>& masks,
                 const Tensor& weight, const std::optional<Tensor>& bias, const std::vector<int64_t>& stride,
                 const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation, double scale);

GradientTensors warp_backward_cuda(const Tensor& grad_output, const Tensor& input, const std::vector<Tensor>& offsets,
                                   const std::vector<Tensor>& masks, const Tensor& weight,
                                   const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                                   const std::vector<int64_t>& dilation, double scale, bool input_wanted,
                                   bool offsets_wanted, bool masks_wanted, bool weight_wanted);

}  // namespace deformwarp
