// The sum of an array in one launch: blocks write partial sums, and the last one to finish adds them up in their order.
#include "toy.h"

namespace deformwarp::cuda {

struct Params {
  const float* in;     // [size]
  float* partial;      // [blocks]
  uint32_t* finished;  // [1], zero before and after
  float* out;          // [1]
  int size;
};

__device__ __forceinline__ float warp_sum(float value) {
  for (int distance = 16; distance > 0; distance /= 2) value += shuffle_down(value, distance);
  return value;
}

__global__ void sum(const Params p) {
  const uint32_t warp_sums = shared_base(), last = warp_sums + 32 * 4;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;

  float value = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < p.size; i += gridDim.x * blockDim.x) {
    value += global_load(p.in + i);
  }
  value = warp_sum(value);
  if (lane == 0) shared_store(warp_sums + warp * 4, value);
  block_barrier();
  if (warp == 0) {
    value = warp_sum(lane < warps ? shared_load<float>(warp_sums + lane * 4) : 0.0f);
    if (lane == 0) {
      global_store(p.partial + blockIdx.x, value);
      memory_fence();
      const bool is_last = global_fetch_add(p.finished, 1) == gridDim.x - 1;
      memory_fence();
      shared_store(last, uint32_t(is_last));
    }
  }
  block_barrier();
  if (shared_load<uint32_t>(last) == 0) return;
  if (threadIdx.x == 0) {
    float total = 0;
    for (unsigned b = 0; b < gridDim.x; ++b) total += global_load_coherent(p.partial + b);
    global_store(p.out, total);
    global_store(p.finished, 0u);
  }
}

void toy(const int* size, void* const* buffer) {
  launch(sum, dim3(size[1]), dim3(96), 33 * 4, nullptr,
         Params{static_cast<const float*>(buffer[0]), static_cast<float*>(buffer[1]), static_cast<uint32_t*>(buffer[2]),
                static_cast<float*>(buffer[3]), size[0]});
}

}  // namespace deformwarp::cuda
