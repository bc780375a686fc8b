// What a valid problem is, again: deformwarp/rules.py has the messages that users see, this guards the memory of
// whoever calls the operators directly. A test holds the two lists of rules together, name by name.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "../problem.h"

namespace deformwarp {

using torch::stable::Tensor;

struct Arguments {
  const Tensor& input;                   // [N, C, H, W]
  const std::vector<Tensor>& offsets;    // D x [N, 2*G*Kh*Kw, Ho, Wo]
  const std::vector<Tensor>& masks;      // none, or D x [N, G*Kh*Kw, Ho, Wo]
  const Tensor& weight;                  // [D, C_out, C/groups, Kh, Kw]
  const std::vector<int64_t>& stride;    // (h, w)
  const std::vector<int64_t>& padding;   // D times (h, w)
  const std::vector<int64_t>& dilation;  // D times (h, w)
};

inline void require(bool holds, const char* rule) {
  if (!holds) throw std::invalid_argument(std::string("deformwarp: broken rule ") + rule);
}

// Of strides, dilations and paddings: no product of them leaves 64 bits.
constexpr int64_t largest_step = 1000000;

inline bool all_between(int64_t least, const std::vector<int64_t>& values) {
  for (const int64_t value : values) {
    if (value < least || value > largest_step) return false;
  }
  return true;
}

inline bool is_floating(const Tensor& tensor) {
  using torch::headeronly::ScalarType;
  const ScalarType type = tensor.scalar_type();
  return type == ScalarType::Double || type == ScalarType::Float || type == ScalarType::Half ||
         type == ScalarType::BFloat16;
}

inline void check_alike(const Tensor& tensor, const Tensor& input, const char* dtype_rule, const char* device_rule) {
  require(tensor.scalar_type() == input.scalar_type(), dtype_rule);
  require(tensor.device() == input.device(), device_rule);
}

inline void check_sampling_tensor(const Tensor& tensor, const Arguments& a, const char* channels_rule,
                                  bool channels_fit, int64_t out_height, int64_t out_width, const char* batch_rule,
                                  const char* size_rule) {
  require(tensor.size(0) == a.input.size(0), batch_rule);
  require(channels_fit, channels_rule);
  require(tensor.size(2) == out_height && tensor.size(3) == out_width, size_rule);
}

inline void check(const Arguments& a) {
  require(a.input.dim() == 4, "input.rank");
  require(is_floating(a.input), "input.dtype");
  require(a.input.size(1) > 0 && a.input.size(2) > 0 && a.input.size(3) > 0, "input.size");
  // Kernels multiply rows by a plane's pitch in 16 bits: a margin must fit beside the image.
  constexpr int64_t largest_side = 32000;
  require(a.input.size(2) <= largest_side && a.input.size(3) <= largest_side, "input.plane");

  require(a.weight.dim() == 5, "weight.rank");
  check_alike(a.weight, a.input, "weight.dtype", "weight.device");
  for (int64_t axis = 0; axis < 5; ++axis) require(a.weight.size(axis) > 0, "weight.size");
  const int64_t branches = a.weight.size(0), taps = a.weight.size(3) * a.weight.size(4);
  require(a.input.size(1) % a.weight.size(2) == 0, "weight.channels");
  const int64_t groups = a.input.size(1) / a.weight.size(2);
  require(a.weight.size(1) % groups == 0, "weight.groups");

  require(a.stride.size() == 2, "stride.length");
  require(all_between(1, a.stride), "stride.value");
  require(int64_t(a.dilation.size()) == 2 * branches, "dilations.length");
  require(all_between(1, a.dilation), "dilations.value");
  require(int64_t(a.padding.size()) == 2 * branches, "padding.length");
  require(all_between(0, a.padding), "padding.value");

  const auto out_size = [&](int64_t d, int64_t axis) {
    return output_size(a.input.size(2 + axis), a.weight.size(3 + axis), a.stride[axis], a.padding[2 * d + axis],
                       a.dilation[2 * d + axis]);
  };
  const int64_t out_height = out_size(0, 0), out_width = out_size(0, 1);
  for (int64_t d = 0; d < branches; ++d) require(out_size(d, 0) > 0 && out_size(d, 1) > 0, "output.size");
  for (int64_t d = 0; d < branches; ++d) {
    require(out_size(d, 0) == out_height && out_size(d, 1) == out_width, "output.equal");
  }

  require(int64_t(a.offsets.size()) == branches, "offsets.length");
  int64_t offset_groups = 0;
  for (const Tensor& offset : a.offsets) {
    require(offset.dim() == 4, "offsets.rank");
    check_alike(offset, a.input, "offsets.dtype", "offsets.device");
    const int64_t channels = offset.size(1);
    if (offset_groups == 0) {
      require(channels > 0 && channels % (2 * taps) == 0 && a.input.size(1) % (channels / (2 * taps)) == 0,
              "offsets.channels");
      offset_groups = channels / (2 * taps);
    }
    check_sampling_tensor(offset, a, "offsets.channels", channels == 2 * taps * offset_groups, out_height, out_width,
                          "offsets.batch", "offsets.size");
  }

  require(a.masks.empty() || int64_t(a.masks.size()) == branches, "masks.length");
  for (const Tensor& mask : a.masks) {
    require(mask.dim() == 4, "masks.rank");
    check_alike(mask, a.input, "masks.dtype", "masks.device");
    check_sampling_tensor(mask, a, "masks.channels", mask.size(1) == taps * offset_groups, out_height, out_width,
                          "masks.batch", "masks.size");
  }
}

inline void check_bias(const Tensor& bias, const Arguments& a) {
  require(bias.dim() == 1 && bias.size(0) == a.weight.size(1), "bias.size");
  check_alike(bias, a.input, "bias.dtype", "bias.device");
}

inline void check_grad_output(const Tensor& grad, const Arguments& a) {
  const Tensor& offset = a.offsets[0];
  require(grad.dim() == 4 && grad.size(0) == a.input.size(0) && grad.size(1) == a.weight.size(1) &&
              grad.size(2) == offset.size(2) && grad.size(3) == offset.size(3),
          "grad_output.size");
  check_alike(grad, a.input, "grad_output.dtype", "grad_output.device");
}

}  // namespace deformwarp
