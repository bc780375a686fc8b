// The GPU of a tensor, and the stream that torch uses on it.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

#include <stdexcept>

#include "../cuda/device.h"
#include "cuda_stream.h"

namespace deformwarp::cuda {

// While it lives, the tensor's GPU is the current one.
class TensorDevice {
 public:
#ifdef DEFORMWARP_CUDA_EMULATION
  explicit TensorDevice(const torch::stable::Tensor&) {}
  Stream stream() const { return nullptr; }
#else
  explicit TensorDevice(const torch::stable::Tensor& tensor)
      : index_(tensor.get_device_index()), guard_(tensor.get_device_index()) {}

  Stream stream() const {
    Stream stream = nullptr;
    const CurrentStream current_stream = current_stream_of_torch();
    if (current_stream == nullptr || current_stream(index_, &stream) != 0) {
      throw std::runtime_error("deformwarp: torch does not name its current CUDA stream");
    }
    return stream;
  }

 private:
  int32_t index_;
  torch::stable::accelerator::DeviceGuard guard_;
#endif
};

}  // namespace deformwarp::cuda
