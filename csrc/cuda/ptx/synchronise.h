// Barriers. Only these order memory between threads: shuffles, votes and matrix products do not.
#pragma once

#include "platform.h"

namespace deformwarp::cuda {

// All threads of the block; none may have returned.
__device__ __forceinline__ void block_barrier() {
#ifdef __CUDACC__
  __syncthreads();
#else
  emulation::block_barrier(false);
#endif
}

// The same; true for all where it is true for one.
__device__ __forceinline__ bool block_barrier_or(bool value) {
#ifdef __CUDACC__
  return __syncthreads_or(value) != 0;
#else
  return emulation::block_barrier(value);
#endif
}

// The 32 lanes of the warp.
__device__ __forceinline__ void warp_barrier() {
#ifdef __CUDACC__
  __syncwarp();
#else
  emulation::warp_barrier();
#endif
}

// What the thread wrote before is visible to the whole device before what it writes after.
__device__ __forceinline__ void memory_fence() {
#ifdef __CUDACC__
  __threadfence();
#else
  emulation::publication.fence();
#endif
}

}  // namespace deformwarp::cuda
