// The operators on CUDA tensors.
#include <torch/csrc/stable/stableivalue_conversions.h>

#include <array>

#include "../cuda/architectures.h"
#include "../cuda/kernel_memory.h"
#include "../cuda/kernels.h"
#include "cuda_device.h"
#include "operators.h"

namespace deformwarp {
namespace {

bool built_for(const cuda::Device& device) { return cuda::runs_on(DEFORMWARP_CUDA_ARCHITECTURES, device.architecture); }

// The operator of the next backend, which deformwarp/ops.py implements: it warns once.
template <class... Arguments>
std::array<StableIValue, sizeof...(Arguments)> call_fallback(const char* op, const Arguments&... arguments) {
  std::array<StableIValue, sizeof...(Arguments)> stack{torch::stable::detail::from(arguments)...};
  STD_TORCH_CHECK(torch_call_dispatcher(op, "", stack.data(), TORCH_ABI_VERSION) == 0, op, " failed");
  return stack;
}

// Elements may lie apart from sample to sample.
size_t bytes_of(const Tensor& tensor) {
  if (tensor.numel() == 0) return 0;
  const int64_t of_sample = tensor.numel() / tensor.size(0);
  return size_t(((tensor.size(0) - 1) * tensor.stride(0) + of_sample) * tensor.element_size());
}

void allow_reading(cuda::KernelMemory& memory, const Tensor& tensor) {
  memory.reads(tensor.const_data_ptr(), bytes_of(tensor));
}
void allow_writing(cuda::KernelMemory& memory, Tensor tensor) {
  memory.writes(tensor.mutable_data_ptr(), bytes_of(tensor));
}

// Memory of torch's own allocator, which hands it out again in the stream's order.
Tensor workspace_of(const Tensor& like, int64_t bytes) {
  return torch::stable::new_empty(like, {bytes}, torch::headeronly::ScalarType::Byte);
}

// The planar kernels copy 16 bytes at once from it, and a contiguous view may start anywhere.
Tensor aligned(const Tensor& tensor) {
  const Tensor dense = torch::stable::contiguous(tensor);
  return reinterpret_cast<uintptr_t>(dense.const_data_ptr()) % 16 == 0 ? dense : torch::stable::clone(dense);
}

}  // namespace

Tensor warp_cuda(const Tensor& input, const std::vector<Tensor>& offsets, const std::vector<Tensor>& masks,
                 const Tensor& weight, const std::optional<Tensor>& bias, const std::vector<int64_t>& stride,
                 const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation, double scale) {
  const Arguments arguments{input, offsets, masks, weight, stride, padding, dilation};
  check(arguments);
  if (bias.has_value()) check_bias(*bias, arguments);
  const cuda::TensorDevice current(input);
  const cuda::Device device = cuda::current_device();
  if (!built_for(device)) {
    return torch::stable::detail::to<Tensor>(call_fallback("deformwarp::warp_fallback", input, offsets, masks, weight,
                                                           bias, stride, padding, dilation, scale)[0]);
  }
  const Bound bound(arguments, scale);
  const BoundBias dense_bias(bias);
  Tensor output = output_of(bound.problem, input);
  if (bound.problem.samples == 0) return output;
  Tensor workspace = workspace_of(input, cuda::plan_forward(bound.problem, device).workspace_bytes);

  cuda::KernelMemory memory;
  bound.for_each_tensor([&](const Tensor& tensor) { allow_reading(memory, tensor); });
  if (bias.has_value()) allow_reading(memory, *dense_bias.tensor());
  allow_writing(memory, output);
  allow_writing(memory, workspace);
  cuda::forward(bound.problem, {dense_bias.pointer(), output.mutable_data_ptr()}, device, workspace.mutable_data_ptr(),
                current.stream());
  return output;
}

GradientTensors warp_backward_cuda(const Tensor& grad_output, const Tensor& input, const std::vector<Tensor>& offsets,
                                   const std::vector<Tensor>& masks, const Tensor& weight,
                                   const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                                   const std::vector<int64_t>& dilation, double scale, bool input_wanted,
                                   bool offsets_wanted, bool masks_wanted, bool weight_wanted) {
  const Arguments arguments{input, offsets, masks, weight, stride, padding, dilation};
  check(arguments);
  check_grad_output(grad_output, arguments);
  const cuda::TensorDevice current(input);
  const cuda::Device device = cuda::current_device();
  if (!built_for(device)) {
    const auto stack =
        call_fallback("deformwarp::warp_backward_fallback", grad_output, input, offsets, masks, weight, stride, padding,
                      dilation, scale, input_wanted, offsets_wanted, masks_wanted, weight_wanted);
    using torch::stable::detail::to;
    return {to<Tensor>(stack[0]), to<std::vector<Tensor>>(stack[1]), to<std::vector<Tensor>>(stack[2]),
            to<Tensor>(stack[3])};
  }
  const Bound bound(arguments, scale);
  BoundGradients results(aligned(grad_output), arguments, {input_wanted, offsets_wanted, masks_wanted, weight_wanted});
  if (bound.problem.samples == 0) {
    results.set_to_zero();
    return results.tensors();
  }
  const cuda::Wanted wanted = cuda::wanted(bound.problem, results.gradients);
  Tensor workspace = workspace_of(input, cuda::plan_backward(bound.problem, wanted, device).workspace_bytes);

  cuda::KernelMemory memory;
  bound.for_each_tensor([&](const Tensor& tensor) { allow_reading(memory, tensor); });
  allow_reading(memory, results.grad_output());
  results.for_each_tensor([&](const Tensor& tensor) { allow_writing(memory, tensor); });
  allow_writing(memory, workspace);
  cuda::backward(bound.problem, results.gradients, device, workspace.mutable_data_ptr(), current.stream());
  return results.tensors();
}

}  // namespace deformwarp
