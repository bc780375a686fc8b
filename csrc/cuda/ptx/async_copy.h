// Copies from global to shared memory that go on while the thread does (cp.async). What they brought is there for the
// copying thread once it has waited, and for others after a barrier that follows.
// sm_75 has no such instruction: there the copy is done at once.
#pragma once

#include "../device.h"
#include "global_memory.h"
#include "shared_memory.h"

namespace deformwarp::cuda {

template <int bytes>
struct CopyType;
template <>
struct CopyType<4> {
  using type = uint32_t;
};
template <>
struct CopyType<8> {
  using type = uint2;
};
template <>
struct CopyType<16> {
  using type = uint4;
};

// 4, 8 or 16 bytes; both addresses are multiples of that. Where `valid` is false the source is not read, and zeros
// come.
template <int bytes>
__device__ __forceinline__ void copy_async(uint32_t target, const void* source, bool valid = true) {
  using T = typename CopyType<bytes>::type;
#ifdef __CUDA_ARCH__
#if __CUDA_ARCH__ >= 800
  const uint32_t read = valid ? bytes : 0;
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(read) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(target), "l"(source), "n"(bytes), "r"(read)
                 : "memory");
  }
#else
  shared_store(target, valid ? global_load_coherent(static_cast<const T*>(source)) : T());
#endif
#elif !defined(__CUDACC__)
  if (current_device().architecture >= 80) {
    emulation::copy_async(target, valid ? source : nullptr, bytes);
  } else {
    shared_store(target, valid ? global_load_coherent(static_cast<const T*>(source)) : T());
  }
#endif
}

// The copies since the last commit become a group.
__device__ __forceinline__ void copy_async_commit() {
#ifdef __CUDA_ARCH__
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
#elif !defined(__CUDACC__)
  emulation::copy_async_commit();
#endif
}

// Waits until at most `groups_in_flight` of the thread's latest groups are under way.
template <int groups_in_flight>
__device__ __forceinline__ void copy_async_wait() {
#ifdef __CUDA_ARCH__
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(groups_in_flight) : "memory");
#endif
#elif !defined(__CUDACC__)
  emulation::copy_async_wait(groups_in_flight);
#endif
}

}  // namespace deformwarp::cuda
