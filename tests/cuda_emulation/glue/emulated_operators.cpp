// The operators on CPU tensors by the emulated CUDA kernels, through the very glue that serves GPUs.
#include <torch/csrc/stable/library.h>

#include "../../../csrc/torch/operators.h"

STABLE_TORCH_LIBRARY(deformwarp_emulated, m) {
  m.def(DEFORMWARP_WARP_SCHEMA("warp"));
  m.def(DEFORMWARP_WARP_BACKWARD_SCHEMA("warp_backward"));
}

STABLE_TORCH_LIBRARY_IMPL(deformwarp_emulated, CPU, m) {
  m.impl("warp", TORCH_BOX(&deformwarp::warp_cuda));
  m.impl("warp_backward", TORCH_BOX(&deformwarp::warp_backward_cuda));
}
