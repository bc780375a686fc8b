// Transposes a matrix of float by tiles of 32 x 32 in shared memory.
#include "toy.h"

namespace deformwarp::cuda {

struct Params {
  const float* in;  // [rows, columns]
  float* out;       // [columns, rows]
  int rows, columns;
};

constexpr uint32_t pitch = 33 * 4;  // bytes

__global__ void transpose(const Params p) {
  const uint32_t tile = shared_base();
  const int row = blockIdx.y * 32, column = blockIdx.x * 32;
  for (int i = threadIdx.y; i < 32; i += 8) {
    if (row + i < p.rows && column + int(threadIdx.x) < p.columns) {
      const float value = global_load(p.in + (row + i) * p.columns + column + threadIdx.x);
      shared_store(tile + i * pitch + threadIdx.x * 4, value);
    }
  }
  block_barrier();
  for (int i = threadIdx.y; i < 32; i += 8) {
    if (column + i < p.columns && row + int(threadIdx.x) < p.rows) {
      const float value = shared_load<float>(tile + threadIdx.x * pitch + i * 4);
      global_store(p.out + (column + i) * p.rows + row + threadIdx.x, value);
    }
  }
}

void toy(const int* size, void* const* buffer) {
  const int rows = size[0], columns = size[1];
  launch(transpose, dim3((columns + 31) / 32, (rows + 31) / 32), dim3(32, 8), 32 * pitch, nullptr,
         Params{static_cast<const float*>(buffer[0]), static_cast<float*>(buffer[1]), rows, columns});
}

}  // namespace deformwarp::cuda
