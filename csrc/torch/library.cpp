// The operators: their schemas, and which function serves which device.
#include <torch/csrc/stable/library.h>

#include "operators.h"

STABLE_TORCH_LIBRARY(deformwarp, m) {
  m.def(DEFORMWARP_WARP_SCHEMA("warp"));
  m.def(DEFORMWARP_WARP_BACKWARD_SCHEMA("warp_backward"));
  // What takes over where a device's kernels are not in this build.
  m.def(DEFORMWARP_WARP_SCHEMA("warp_fallback"));
  m.def(DEFORMWARP_WARP_BACKWARD_SCHEMA("warp_backward_fallback"));
}

STABLE_TORCH_LIBRARY_IMPL(deformwarp, CPU, m) {
  m.impl("warp", TORCH_BOX(&deformwarp::warp_cpu));
  m.impl("warp_backward", TORCH_BOX(&deformwarp::warp_backward_cpu));
}

#ifdef DEFORMWARP_CUDA_ARCHITECTURES
STABLE_TORCH_LIBRARY_IMPL(deformwarp, CUDA, m) {
  m.impl("warp", TORCH_BOX(&deformwarp::warp_cuda));
  m.impl("warp_backward", TORCH_BOX(&deformwarp::warp_backward_cuda));
}
#endif
