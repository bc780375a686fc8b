// Four neighbours of a row, as they lie in memory; arithmetic on them is float32.
#pragma once

#include "element.h"

namespace deformwarp::cuda {

// `Bits` is what a load brings: two registers for the half types.
template <class T>
struct Quad;

template <>
struct Quad<float> {
  using Bits = float4;
  static __device__ __forceinline__ float4 widen(float4 four) { return four; }
  static __device__ __forceinline__ float4 narrow(float4 four) { return four; }
};

template <>
struct Quad<Half> {
  using Bits = uint2;
  static __device__ __forceinline__ float4 widen(uint2 four) {
    const float2 low = unpack_f16(four.x), high = unpack_f16(four.y);
    return make_float4(low.x, low.y, high.x, high.y);
  }
  static __device__ __forceinline__ uint2 narrow(float4 four) {
    return make_uint2(pack_f16(four.x, four.y), pack_f16(four.z, four.w));
  }
};

template <>
struct Quad<BFloat16> {
  using Bits = uint2;
  static __device__ __forceinline__ float4 widen(uint2 four) {
    const float2 low = unpack_bf16(four.x), high = unpack_bf16(four.y);
    return make_float4(low.x, low.y, high.x, high.y);
  }
  static __device__ __forceinline__ uint2 narrow(float4 four) {
    return make_uint2(pack_bf16(four.x, four.y), pack_bf16(four.z, four.w));
  }
};

__device__ __forceinline__ float element_of(const float4& four, int i) {
  return i == 0 ? four.x : i == 1 ? four.y : i == 2 ? four.z : four.w;
}

}  // namespace deformwarp::cuda
