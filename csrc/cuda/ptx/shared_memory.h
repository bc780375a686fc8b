// Dynamic shared memory, by its 32-bit addresses. T has 2, 4, 8 or 16 bytes, and the address is a multiple of that.
#pragma once

#include "platform.h"

namespace deformwarp::cuda {

// Where the block's dynamic shared memory begins; 16-byte aligned.
__device__ __forceinline__ uint32_t shared_base() {
#ifdef __CUDACC__
  extern __shared__ uint4 dynamic_shared_memory[];
  return static_cast<uint32_t>(__cvta_generic_to_shared(dynamic_shared_memory));
#else
  return emulation::SharedMemory::base;
#endif
}

#ifdef __CUDACC__
// The compiler sees through this to ld.shared and st.shared, which it may then order and merge as it likes.
template <class T>
__device__ __forceinline__ T* shared_pointer(uint32_t address) {
  return static_cast<T*>(__cvta_shared_to_generic(address));
}
#endif

template <class T>
__device__ __forceinline__ T shared_load(uint32_t address) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "no load has this size");
#ifdef __CUDACC__
  return *shared_pointer<const T>(address);
#else
  return emulation::shared_memory.load<T>(address);
#endif
}

template <class T>
__device__ __forceinline__ void shared_store(uint32_t address, T value) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "no store has this size");
#ifdef __CUDACC__
  *shared_pointer<T>(address) = value;
#else
  emulation::shared_memory.store<T>(address, value);
#endif
}

// Atomic additions. Native (ATOMS.ADD) for 32-bit integers only: for float, double and 64-bit integers every
// architecture up to sm_120 loops around a compare-and-swap.
template <class T>
__device__ __forceinline__ void shared_add(uint32_t address, T value) {
#ifdef __CUDACC__
  atomicAdd(shared_pointer<T>(address), value);
#else
  emulation::shared_memory.fetch_add<T>(address, value);
#endif
}

// Two's complement: adding unsigned adds signed.
__device__ __forceinline__ void shared_add(uint32_t address, int64_t value) {
  shared_add(address, static_cast<unsigned long long>(value));
}

// Bytes between two regions that nobody may touch until the block ends: checked on the CPU, nothing on a GPU.
__device__ __forceinline__ void shared_guard([[maybe_unused]] uint32_t address, [[maybe_unused]] uint32_t bytes) {
#ifndef __CUDACC__
  emulation::shared_memory.forbid(address, bytes);
#endif
}

}  // namespace deformwarp::cuda
