// Compiled once per instruction set (CMakeLists.txt), each time into a namespace of its own.
#include "kernels.h"

#include "planar_backward.h"
#include "planar_forward.h"
#include "shared_backward.h"
#include "shared_forward.h"

namespace deformwarp::DEFORMWARP_ISA {

template <class Stored>
void forward_as(const Problem& problem, const Output& output, const Pool& pool) {
  if (problem.offset_group_channels() == 1) {
    PlanarForward<Stored>(problem, output).run(pool);
  } else {
    SharedForward<Stored>(problem, output).run(pool);
  }
}

template <class Stored>
void backward_as(const Problem& problem, const Gradients& grads, const Pool& pool) {
  if (problem.offset_group_channels() == 1) {
    PlanarBackward<Stored>(problem, grads).run(pool);
  } else {
    SharedBackward<Stored>(problem, grads).run(pool);
  }
}

static void forward(const Problem& problem, const Output& output, const Pool& pool) {
  switch (problem.dtype) {
    case DType::float64:
      return forward_as<double>(problem, output, pool);
    case DType::float32:
      return forward_as<float>(problem, output, pool);
    case DType::float16:
      return forward_as<Half>(problem, output, pool);
    case DType::bfloat16:
      return forward_as<BFloat16>(problem, output, pool);
  }
}

static void backward(const Problem& problem, const Gradients& grads, const Pool& pool) {
  switch (problem.dtype) {
    case DType::float64:
      return backward_as<double>(problem, grads, pool);
    case DType::float32:
      return backward_as<float>(problem, grads, pool);
    case DType::float16:
      return backward_as<Half>(problem, grads, pool);
    case DType::bfloat16:
      return backward_as<BFloat16>(problem, grads, pool);
  }
}

static bool runs_here() {
#if defined(__AVX512F__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma");
#elif defined(__AVX2__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#else
  return true;
#endif
}

#define DEFORMWARP_NAME(x) DEFORMWARP_NAME_(x)
#define DEFORMWARP_NAME_(x) #x
extern const Kernels kernels;
const Kernels kernels{DEFORMWARP_NAME(DEFORMWARP_ISA), runs_here, forward, backward};

}  // namespace deformwarp::DEFORMWARP_ISA
