// Global memory. T is one of CUDA's own types of 2, 4, 8 or 16 bytes.
#pragma once

#include <type_traits>

#include "platform.h"

namespace deformwarp::cuda {

// base + n. `element_bytes` is sizeof(T), from a kernel's parameters: of a factor that the compiler knows it makes
// shifts and additions, where one instruction is enough.
template <class T>
__device__ __forceinline__ T* element_at(T* base, uint32_t n, [[maybe_unused]] uint32_t element_bytes) {
#ifdef __CUDACC__
  uint64_t address;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(address) : "r"(n), "r"(element_bytes), "l"(base));
  return reinterpret_cast<T*>(address);
#else
  return base + n;
#endif
}

// Through the read-only path: nothing may write there during the launch.
template <class T>
__device__ __forceinline__ T global_load(const T* pointer) {
#ifdef __CUDACC__
  return __ldg(pointer);
#else
  emulation::global_memory.check_read(pointer, sizeof(T), emulation::ReadPath::constant);
  return *pointer;
#endif
}

// The same for what is read once: it does not displace other data from the first-level cache.
template <class T>
__device__ __forceinline__ T global_load_streaming(const T* pointer) {
#ifdef __CUDACC__
  if constexpr (sizeof(T) == 2) {
    uint16_t bits;
    asm("ld.global.nc.L1::no_allocate.b16 %0, [%1];" : "=h"(bits) : "l"(pointer));
    return bit_cast<T>(bits);
  } else if constexpr (sizeof(T) == 4) {
    uint32_t bits;
    asm("ld.global.nc.L1::no_allocate.b32 %0, [%1];" : "=r"(bits) : "l"(pointer));
    return bit_cast<T>(bits);
  } else if constexpr (sizeof(T) == 8) {
    uint2 bits;
    asm("ld.global.nc.L1::no_allocate.v2.b32 {%0, %1}, [%2];" : "=r"(bits.x), "=r"(bits.y) : "l"(pointer));
    return bit_cast<T>(bits);
  } else {
    uint4 bits;
    asm("ld.global.nc.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];"
        : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
        : "l"(pointer));
    return bit_cast<T>(bits);
  }
#else
  return global_load(pointer);
#endif
}

// From the second-level cache, the same for all multiprocessors: sees what this launch wrote.
template <class T>
__device__ __forceinline__ T global_load_coherent(const T* pointer) {
#ifdef __CUDACC__
  return __ldcg(pointer);
#else
  emulation::global_memory.check_read(pointer, sizeof(T), emulation::ReadPath::coherent);
  return *pointer;
#endif
}

template <class T>
__device__ __forceinline__ void global_store(T* pointer, T value) {
#ifndef __CUDACC__
  emulation::global_memory.check_write(pointer, sizeof(T));
  emulation::publication.write();
#endif
  *pointer = value;
}

// For what is not read again soon: it is evicted first.
template <class T>
__device__ __forceinline__ void global_store_streaming(T* pointer, T value) {
#ifdef __CUDACC__
  __stcs(pointer, value);
#else
  global_store(pointer, value);
#endif
}

// The same, where `wanted`; without a jump for 8 bytes.
template <class T>
__device__ __forceinline__ void global_store_streaming_if(bool wanted, T* pointer, T value) {
#ifdef __CUDACC__
  if constexpr (sizeof(T) == 8) {
    const uint2 bits = bit_cast<uint2>(value);
    asm volatile("{.reg .pred p; setp.ne.s32 p, %0, 0; @p st.global.cs.v2.b32 [%1], {%2, %3};}" ::"r"(int(wanted)),
                 "l"(pointer), "r"(bits.x), "r"(bits.y)
                 : "memory");
    return;
  }
#endif
  if (wanted) global_store_streaming(pointer, value);
}

// Atomic additions without a result (red). float: denormals count as zero, before and after.
template <class T>
__device__ __forceinline__ void global_add(T* pointer, T value) {
#ifdef __CUDACC__
  atomicAdd(pointer, value);
#else
  emulation::global_memory.check_atomic(pointer, sizeof(T));
  emulation::publication.write();
  if constexpr (std::is_same_v<T, float>) {
    const auto flushed = [](T x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(T(0), x) : x; };
    *pointer = flushed(flushed(*pointer) + flushed(value));
  } else {
    *pointer += value;
  }
#endif
}

// Two's complement: adding unsigned adds signed.
__device__ __forceinline__ void global_add(int64_t* pointer, int64_t value) {
  global_add(reinterpret_cast<unsigned long long*>(pointer), static_cast<unsigned long long>(value));
}

// Several at once; each element's addition is atomic, the whole is not. One instruction from sm_90 on.
__device__ __forceinline__ void global_add(float2* pointer, float2 value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("red.global.add.v2.f32 [%0], {%1, %2};" ::"l"(pointer), "f"(value.x), "f"(value.y) : "memory");
#else
  global_add(&pointer->x, value.x);
  global_add(&pointer->y, value.y);
#endif
}
__device__ __forceinline__ void global_add(float4* pointer, float4 value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(pointer), "f"(value.x), "f"(value.y), "f"(value.z),
               "f"(value.w)
               : "memory");
#else
  global_add(&pointer->x, value.x);
  global_add(&pointer->y, value.y);
  global_add(&pointer->z, value.z);
  global_add(&pointer->w, value.w);
#endif
}

// Returns what was there. With memory_fence() before it, it publishes what the block wrote; with one after it, what
// other blocks published may be read by global_load_coherent().
__device__ __forceinline__ uint32_t global_fetch_add(uint32_t* pointer, uint32_t value) {
#ifdef __CUDACC__
  return atomicAdd(pointer, value);
#else
  emulation::global_memory.check_atomic(pointer, sizeof(uint32_t));
  emulation::publication.atomic_with_result();
  const uint32_t before = *pointer;
  *pointer += value;
  return before;
#endif
}

// A hint; an address that does not exist does no harm.
__device__ __forceinline__ void prefetch_l2([[maybe_unused]] const void* pointer) {
#ifdef __CUDACC__
  asm volatile("prefetch.global.L2 [%0];" ::"l"(pointer));
#endif
}

}  // namespace deformwarp::cuda
