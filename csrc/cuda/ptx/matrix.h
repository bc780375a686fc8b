// Products of small matrices that a warp computes together on its tensor cores: D[16, 8] += A[16, K] x B[K, 8],
// and the transposition of a matrix spread over a warp. Fragments are those of the PTX ISA (mma.sync, movmatrix).
// With g = lane / 4 and t = lane % 4:
//   d[2i + j]  = D[g + 8i][2t + j]
//   f16, bf16: two elements a register, the first in the lower half
//     a[i + 2k] = A[g + 8i][2t + 8k], A[g + 8i][2t + 8k + 1]
//     b[k]      = B[2t + 8k][g],      B[2t + 8k + 1][g]
//   tf32: one element a register, of which the lower 13 bits do not count
//     a[i + 2k] = A[g + 8i][t + 4k]
//     b[k]      = B[t + 4k][g]
#pragma once

#include "half.h"
#include "platform.h"

namespace deformwarp::cuda {

#ifndef __CUDACC__
namespace plain_meaning {

template <int a_registers, int b_registers>
struct Fragments {
  float d[4];
  uint32_t a[a_registers], b[b_registers];
};

struct F16 {
  static constexpr int per_register = 2;
  static float element(uint32_t bits, int i) { return from_f16(uint16_t(bits >> 16 * i)); }
};
struct Bf16 {
  static constexpr int per_register = 2;
  static float element(uint32_t bits, int i) { return from_bf16(uint16_t(bits >> 16 * i)); }
};
struct Tf32 {
  static constexpr int per_register = 1;
  static float element(uint32_t bits, int) { return bit_cast<float>(bits & ~uint32_t(0x1fff)); }
};

// Adds up as coarsely as any tensor core: of every term what the largest one's last bit does not show is cut off, and
// of the sum what a float does not hold.
template <int terms>
float cut_sum(const float (&values)[terms]) {
  uint32_t largest = 0;  // exponent
  for (const float value : values) largest = std::max(largest, bit_cast<uint32_t>(value) >> 23 & 0xff);
  if (largest == 0xff) {
    float sum = 0;
    for (const float value : values) sum += value;
    return sum;
  }
  const double last_bit = std::ldexp(1.0, int(std::max(largest, 1u)) - 127 - 23);
  double sum = 0;
  for (const float value : values) sum += std::trunc(value / last_bit) * last_bit;
  const float nearest = float(sum);
  return std::fabs(double(nearest)) > std::fabs(sum) ? std::nextafter(nearest, 0.0f) : nearest;
}

template <class Element, int a_registers, int b_registers>
void multiply(Fragments<a_registers, b_registers> (&lanes)[32]) {
  constexpr int n = Element::per_register, depth = 4 * n * b_registers;
  float a[depth][16], b[depth][8], d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int k = 0; k < b_registers; ++k) {
      for (int j = 0; j < n; ++j) {
        const int inner = n * t + 4 * n * k + j;
        a[inner][g] = Element::element(lanes[lane].a[2 * k], j);
        a[inner][g + 8] = Element::element(lanes[lane].a[2 * k + 1], j);
        b[inner][g] = Element::element(lanes[lane].b[k], j);
      }
    }
    for (int i = 0; i < 4; ++i) d[g + i / 2 * 8][2 * t + i % 2] = lanes[lane].d[i];
  }
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      float terms[depth + 1] = {d[row][column]};
      for (int inner = 0; inner < depth; ++inner) terms[inner + 1] = a[inner][row] * b[inner][column];
      d[row][column] = cut_sum(terms);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) lanes[lane].d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  }
}

template <class Element, int a_registers, int b_registers>
void mma(const char* instruction, float (&d)[4], const uint32_t (&a)[a_registers], const uint32_t (&b)[b_registers]) {
  using Operands = Fragments<a_registers, b_registers>;
  Operands mine;
  std::memcpy(mine.d, d, sizeof(d));
  std::memcpy(mine.a, a, sizeof(a));
  std::memcpy(mine.b, b, sizeof(b));
  const Operands result = emulation::together<Operands, multiply<Element, a_registers, b_registers>>(instruction, mine);
  std::memcpy(d, result.d, sizeof(d));
}

struct Word {
  uint32_t bits;
};

inline void transpose(Word (&lanes)[32]) {
  uint16_t matrix[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    for (int j = 0; j < 2; ++j) matrix[lane / 4][lane % 4 * 2 + j] = uint16_t(lanes[lane].bits >> 16 * j);
  }
  for (int lane = 0; lane < 32; ++lane) {
    lanes[lane].bits = matrix[lane % 4 * 2][lane / 4] | uint32_t(matrix[lane % 4 * 2 + 1][lane / 4]) << 16;
  }
}

}  // namespace plain_meaning
#endif

// float16, K = 8.
__device__ __forceinline__ void mma_f16_k8(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1]) {
#ifdef __CUDACC__
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(b[0]));
#else
  plain_meaning::mma<plain_meaning::F16>("mma_f16_k8", d, a, b);
#endif
}

// float16, K = 16; on sm_75 two products of half the depth.
__device__ __forceinline__ void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  mma_f16_k8(d, {a[0], a[1]}, {b[0]});
  mma_f16_k8(d, {a[2], a[3]}, {b[1]});
#elif defined(__CUDACC__)
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  plain_meaning::mma<plain_meaning::F16>("mma_f16", d, a, b);
#endif
}

// bfloat16, K = 16; from sm_80 on.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  __trap();
#elif defined(__CUDACC__)
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  emulation::require_architecture(80, "mma_bf16");
  plain_meaning::mma<plain_meaning::Bf16>("mma_bf16", d, a, b);
#endif
}

// bfloat16, K = 8; from sm_80 on.
__device__ __forceinline__ void mma_bf16_k8(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  __trap();
#elif defined(__CUDACC__)
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(b[0]));
#else
  emulation::require_architecture(80, "mma_bf16_k8");
  plain_meaning::mma<plain_meaning::Bf16>("mma_bf16_k8", d, a, b);
#endif
}

// tf32, K = 8; from sm_80 on.
__device__ __forceinline__ void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  __trap();
#elif defined(__CUDACC__)
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  emulation::require_architecture(80, "mma_tf32");
  plain_meaning::mma<plain_meaning::Tf32>("mma_tf32", d, a, b);
#endif
}

// An 8x8 matrix of 16-bit elements, row g in lanes 4g to 4g + 3, two elements a lane: its transpose, spread alike.
__device__ __forceinline__ uint32_t transpose8x8(uint32_t bits) {
#ifdef __CUDACC__
  uint32_t result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(bits));
  return result;
#else
  return emulation::together<plain_meaning::Word, plain_meaning::transpose>("transpose8x8", {bits}).bits;
#endif
}

}  // namespace deformwarp::cuda
