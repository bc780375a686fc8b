// How often each of 64 values occurs: counted in shared memory, then added to the counts of all blocks.
#include "toy.h"

namespace deformwarp::cuda {

constexpr int bins = 64;

struct Params {
  const int* in;  // [size], each in [0, bins)
  int* counts;    // [bins], added to
  int size;
};

__global__ void histogram(const Params p) {
  const uint32_t counts = shared_base();
  for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) shared_store(counts + bin * 4, 0);
  shared_guard(counts + bins * 4, 16);
  block_barrier();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < p.size; i += gridDim.x * blockDim.x) {
    shared_add(counts + global_load(p.in + i) * 4, 1);
  }
  block_barrier();
  for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) {
    global_add(p.counts + bin, shared_load<int>(counts + bin * 4));
  }
}

void toy(const int* size, void* const* buffer) {
  launch(histogram, dim3(3), dim3(128), bins * 4 + 16, nullptr,
         Params{static_cast<const int*>(buffer[0]), static_cast<int*>(buffer[1]), size[0]});
}

}  // namespace deformwarp::cuda
