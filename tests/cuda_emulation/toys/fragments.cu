// One product of fragments a warp: the registers of every lane as they are.
#include "toy.h"

namespace deformwarp::cuda {

struct Params {
  const uint32_t* a;  // [warps, 32, 4]
  const uint32_t* b;  // [warps, 32, 2]
  float* d;           // [warps, 32, 4], added to
  int kind;
};

__global__ void fragments(const Params p) {
  const int lane = blockIdx.x * 32 + threadIdx.x;
  uint32_t a[4], b[2];
  float d[4];
  for (int i = 0; i < 4; ++i) a[i] = global_load(p.a + 4 * lane + i);
  for (int i = 0; i < 2; ++i) b[i] = global_load(p.b + 2 * lane + i);
  for (int i = 0; i < 4; ++i) d[i] = global_load_coherent(p.d + 4 * lane + i);
  if (p.kind == 0) mma_f16(d, a, b);
  if (p.kind == 1) mma_bf16(d, a, b);
  if (p.kind == 2) mma_tf32(d, a, b);
  if (p.kind == 3) mma_f16_k8(d, {a[0], a[1]}, {b[0]});
  if (p.kind == 4) mma_bf16_k8(d, {a[0], a[1]}, {b[0]});
  for (int i = 0; i < 4; ++i) global_store(p.d + 4 * lane + i, d[i]);
}

void toy(const int* size, void* const* buffer) {
  launch(fragments, dim3(size[1]), dim3(32), 0, nullptr,
         Params{static_cast<const uint32_t*>(buffer[0]), static_cast<const uint32_t*>(buffer[1]),
                static_cast<float*>(buffer[2]), size[0]});
}

}  // namespace deformwarp::cuda
