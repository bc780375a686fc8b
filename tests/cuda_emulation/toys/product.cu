// out = a x b for float16 matrices, a warp for 16 rows and 8 columns. A warp's rows of `a` come into shared memory
// 16 columns at a time, by asynchronous copies that run one step ahead.
#include "toy.h"

namespace deformwarp::cuda {

struct Params {
  const uint16_t* a;  // [rows, inner]
  const uint16_t* b;  // [columns, inner]: transposed
  float* out;         // [rows, columns]
  int columns, inner;
};

constexpr uint32_t row_bytes = 16 * 2, slot_bytes = 16 * row_bytes, slots = 2;
constexpr int warps = 2;

// Rows of 16 columns from `column` on, in two copies of 8 each: one a lane.
__device__ __forceinline__ void fetch(const Params& p, uint32_t slot, int first_row, int column) {
  const int row = lane_number() / 2, part = lane_number() % 2;
  copy_async<16>(slot + row * row_bytes + part * 16, p.a + (first_row + row) * p.inner + column + part * 8,
                 column < p.inner);
  copy_async_commit();
}

__global__ void product(const Params p) {
  const int warp = threadIdx.x / 32, g = lane_number() / 4, t = lane_number() % 4;
  const int first_row = 16 * (blockIdx.y * warps + warp), first_column = 8 * blockIdx.x;
  const uint32_t rows = shared_base() + warp * slots * slot_bytes;

  float d[4] = {};
  fetch(p, rows, first_row, 0);
  for (int step = 0; step < p.inner / 16; ++step) {
    fetch(p, rows + (step + 1) % slots * slot_bytes, first_row, 16 * (step + 1));
    copy_async_wait<1>();
    warp_barrier();
    const uint32_t slot = rows + step % slots * slot_bytes;
    uint32_t a[4], b[2];
    for (int i = 0; i < 2; ++i) {
      for (int k = 0; k < 2; ++k) {
        a[i + 2 * k] = shared_load<uint32_t>(slot + (g + 8 * i) * row_bytes + (2 * t + 8 * k) * 2);
      }
    }
    for (int k = 0; k < 2; ++k) {
      const uint16_t* const pair = p.b + (first_column + g) * p.inner + 16 * step + 2 * t + 8 * k;
      b[k] = global_load(reinterpret_cast<const uint32_t*>(pair));
    }
    mma_f16(d, a, b);
    warp_barrier();
  }
  for (int i = 0; i < 2; ++i) {
    float* const pair = p.out + (first_row + g + 8 * i) * p.columns + first_column + 2 * t;
    global_store(reinterpret_cast<float2*>(pair), make_float2(d[2 * i], d[2 * i + 1]));
  }
}

void toy(const int* size, void* const* buffer) {
  const int rows = size[0], columns = size[1], inner = size[2];
  launch(product, dim3(columns / 8, rows / (16 * warps)), dim3(32 * warps), warps * slots * slot_bytes, nullptr,
         Params{static_cast<const uint16_t*>(buffer[0]), static_cast<const uint16_t*>(buffer[1]),
                static_cast<float*>(buffer[2]), columns, inner});
}

}  // namespace deformwarp::cuda
