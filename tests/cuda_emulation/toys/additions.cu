// Every atomic addition: all threads add to the same places, in shared and in global memory.
#include "toy.h"

namespace deformwarp::cuda {

struct Params {
  const float* in;               // [threads]
  int* integers;                 // [2]: by shared, by global memory; all are added to
  unsigned long long* long_sum;  // [1]
  float* floats;                 // [8]: by shared memory, alone, as one of two, as one of four
  double* doubles;               // [2]
  uint32_t* tickets;             // [threads]: what the fetching addition returned
  uint32_t* counter;             // [1]
};

__global__ void additions(const Params p) {
  const uint32_t integer = shared_base(), single = integer + 4, twice = integer + 8, wide = integer + 16;
  const int thread = blockIdx.x * blockDim.x + threadIdx.x;
  if (threadIdx.x == 0) {
    shared_store(integer, 0);
    shared_store(single, 0.0f);
    shared_store(twice, 0.0);
    shared_store(wide, int64_t(0));
  }
  block_barrier();
  const float value = global_load(p.in + thread);
  shared_add(integer, int(value));
  shared_add(single, value);
  shared_add(twice, double(value));
  shared_add(wide, int64_t(value) << 32);
  global_add(p.integers + 1, int(value));
  global_add(p.doubles + 1, double(value));
  global_add(p.floats + 1, value);
  global_add(reinterpret_cast<float2*>(p.floats + 2), make_float2(value, -value));
  global_add(reinterpret_cast<float4*>(p.floats + 4), make_float4(value, 2 * value, -value, 0));
  global_store(p.tickets + thread, global_fetch_add(p.counter, 1));
  block_barrier();
  if (threadIdx.x == 0) {
    global_add(p.integers, shared_load<int>(integer));
    global_add(p.floats, shared_load<float>(single));
    global_add(p.doubles, shared_load<double>(twice));
    global_add(p.long_sum, shared_load<unsigned long long>(wide));
  }
}

void toy(const int* size, void* const* buffer) {
  launch(additions, dim3(size[0]), dim3(64), 24, nullptr,
         Params{static_cast<const float*>(buffer[0]), static_cast<int*>(buffer[1]),
                static_cast<unsigned long long*>(buffer[2]), static_cast<float*>(buffer[3]),
                static_cast<double*>(buffer[4]), static_cast<uint32_t*>(buffer[5]), static_cast<uint32_t*>(buffer[6])});
}

}  // namespace deformwarp::cuda
