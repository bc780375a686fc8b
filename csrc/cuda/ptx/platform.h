// nvcc, or a C++ compiler with tests/cuda_emulation in its place.
#pragma once

#include <cstdint>
#include <cstring>

#ifndef __CUDACC__
#include "emulator.h"
#endif

namespace deformwarp::cuda {

template <class To, class From>
__device__ __forceinline__ To bit_cast(const From& value) {
  static_assert(sizeof(To) == sizeof(From), "a bit pattern keeps its size");
  To result;
  memcpy(&result, &value, sizeof(To));
  return result;
}

}  // namespace deformwarp::cuda
