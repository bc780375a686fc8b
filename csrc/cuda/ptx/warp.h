// Values from other lanes of the warp. All 32 lanes take part. T has 4 or 8 bytes.
#pragma once

#include "platform.h"

namespace deformwarp::cuda {

__device__ __forceinline__ uint32_t lane_number() {
#ifdef __CUDACC__
  uint32_t lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
#else
  return emulation::thread_of(emulation::now) % 32;
#endif
}

#ifndef __CUDACC__
namespace plain_meaning {

template <class T>
struct Shuffled {
  T value;
  uint32_t source;
};

template <class T>
void shuffle(Shuffled<T> (&lanes)[32]) {
  T values[32];
  for (int i = 0; i < 32; ++i) values[i] = lanes[i].value;
  for (auto& lane : lanes) lane.value = values[lane.source % 32];
}

struct Vote {
  uint32_t bits;
};

inline void ballot(Vote (&lanes)[32]) {
  uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) bits |= (lanes[i].bits != 0 ? 1u : 0u) << i;
  for (auto& lane : lanes) lane.bits = bits;
}

template <class T>
T shuffle(const char* instruction, T value, uint32_t source) {
  return emulation::together<Shuffled<T>, shuffle<T>>(instruction, {value, source}).value;
}

}  // namespace plain_meaning
#endif

// The value of lane `lane` modulo 32.
template <class T>
__device__ __forceinline__ T shuffle(T value, uint32_t lane) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "no shuffle has this size");
#ifdef __CUDACC__
  return __shfl_sync(~0u, value, lane);
#else
  return plain_meaning::shuffle("shuffle", value, lane);
#endif
}

// The value of the lane whose number differs in the bits of `mask`.
template <class T>
__device__ __forceinline__ T shuffle_xor(T value, uint32_t mask) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "no shuffle has this size");
#ifdef __CUDACC__
  return __shfl_xor_sync(~0u, value, mask);
#else
  return plain_meaning::shuffle("shuffle_xor", value, lane_number() ^ mask);
#endif
}

// The value of the lane `delta` further on; the last `delta` lanes keep their own.
template <class T>
__device__ __forceinline__ T shuffle_down(T value, uint32_t delta) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "no shuffle has this size");
#ifdef __CUDACC__
  return __shfl_down_sync(~0u, value, delta);
#else
  const uint32_t lane = lane_number();
  return plain_meaning::shuffle("shuffle_down", value, lane + delta < 32 ? lane + delta : lane);
#endif
}

// Bit i is set where lane i's value is true.
__device__ __forceinline__ uint32_t ballot(bool value) {
#ifdef __CUDACC__
  return __ballot_sync(~0u, value);
#else
  return emulation::together<plain_meaning::Vote, plain_meaning::ballot>("ballot", {value}).bits;
#endif
}

}  // namespace deformwarp::cuda
