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

// The same value. The compiler does not know what it follows from: it keeps it, and does not compute it at every use.
template <class T>
__device__ __forceinline__ T opaque(T value) {
  static_assert(sizeof(T) == 4, "a register has this size");
#ifdef __CUDACC__
  uint32_t bits = bit_cast<uint32_t>(value);
  asm("" : "+r"(bits));
  return bit_cast<T>(bits);
#else
  return value;
#endif
}

}  // namespace deformwarp::cuda
