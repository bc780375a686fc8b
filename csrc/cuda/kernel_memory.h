// Where kernels may read and write, said by whoever hands them pointers. It costs nothing and does nothing on a GPU;
// where kernels run on the CPU under test (tests/cuda_emulation), every access outside these ranges is an error.
#pragma once

#include <cstddef>

namespace deformwarp::cuda {

#ifdef DEFORMWARP_CUDA_EMULATION

// Until the end of its scope, and for all launches within.
class KernelMemory {
 public:
  KernelMemory();
  ~KernelMemory();
  KernelMemory(const KernelMemory&) = delete;
  KernelMemory& operator=(const KernelMemory&) = delete;

  void reads(const void* begin, size_t bytes);
  void writes(void* begin, size_t bytes);   // content undefined before: it is filled with NaN
  void updates(void* begin, size_t bytes);  // content defined before
};

#else

class KernelMemory {
 public:
  void reads(const void*, size_t) {}
  void writes(void*, size_t) {}
  void updates(void*, size_t) {}
};

#endif

}  // namespace deformwarp::cuda
