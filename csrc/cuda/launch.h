// Launches of kernels: one function in place of <<<>>>, so that one source serves nvcc and the emulation on the CPU.
#pragma once

#include <cstddef>
#include <typeinfo>

#include "device.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include "emulator.h"  // tests/cuda_emulation
#endif

namespace deformwarp::cuda {

#ifdef __CUDACC__
// csrc/cuda/runtime.cu: allows the shared memory, launches, checks.
void launch_kernel(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, Stream stream, void** arguments);
#endif

// Runs kernel(params) on the stream, with `shared_bytes` of dynamic shared memory.
// Throws std::runtime_error with the kernel's name where it could not be launched.
template <class Params>
void launch(void (*kernel)(Params), dim3 grid, dim3 block, size_t shared_bytes, [[maybe_unused]] Stream stream,
            const Params& params) {
  static_assert(sizeof(Params) <= 4096, "kernel parameters are limited to 4 KiB before sm_70 and CUDA 12.1");
#ifdef __CUDACC__
  void* arguments[] = {const_cast<Params*>(&params)};
  launch_kernel(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, stream, arguments);
#else
  struct Call {
    void (*kernel)(Params);
    const Params& params;
  };
  const Call call{kernel, params};
  const auto run = [](const void* c) { static_cast<const Call*>(c)->kernel(static_cast<const Call*>(c)->params); };
  emulation::launch(reinterpret_cast<const void*>(kernel), typeid(Params).name(), grid, block, shared_bytes,
                    {run, &call});
#endif
}

}  // namespace deformwarp::cuda
