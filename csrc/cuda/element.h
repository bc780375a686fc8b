// Element types in memory and the arithmetic done on them: float64 stays float64, the rest is float32.
#pragma once

#include "../problem.h"
#include "ptx.h"

namespace deformwarp::cuda {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <class Stored>
struct ArithmeticOf {
  using type = float;
};
template <>
struct ArithmeticOf<double> {
  using type = double;
};
template <class Stored>
using Arithmetic = typename ArithmeticOf<Stored>::type;

__device__ __forceinline__ float load_element(const float* from) { return global_load(from); }
__device__ __forceinline__ double load_element(const double* from) { return global_load(from); }
__device__ __forceinline__ float load_element(const Half* from) { return from_f16(global_load(&from->bits)); }
__device__ __forceinline__ float load_element(const BFloat16* from) { return from_bf16(global_load(&from->bits)); }

// Rounded to the nearest, ties to even, as PyTorch does.
__device__ __forceinline__ void store_element(float* to, float value) { global_store(to, value); }
__device__ __forceinline__ void store_element(double* to, double value) { global_store(to, value); }
__device__ __forceinline__ void store_element(Half* to, float value) { global_store(&to->bits, to_f16(value)); }
__device__ __forceinline__ void store_element(BFloat16* to, float value) { global_store(&to->bits, to_bf16(value)); }

// Calls run.operator()<Stored>() for the type that the problem's tensors have.
template <class Run>
void with_element_type(DType dtype, const Run& run) {
  switch (dtype) {
    case DType::float64:
      return run(double{});
    case DType::float32:
      return run(float{});
    case DType::float16:
      return run(Half{});
    case DType::bfloat16:
      return run(BFloat16{});
  }
}

}  // namespace deformwarp::cuda
