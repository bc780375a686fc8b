// How torch is asked for its current stream on a GPU. The library is linked to torch's CPU part alone, so that it loads
// beside a CPU build of torch; what it does not depend on the loader does not search, not even for a weak symbol.
#pragma once

#include <dlfcn.h>

#include <cstdint>

namespace deformwarp::cuda {

// Writes the stream of a device, and gives a nonzero error where it cannot.
using CurrentStream = int32_t (*)(int32_t device, void** stream);

// Null where torch has no CUDA in it.
inline CurrentStream current_stream_of_torch() {
  static const CurrentStream found = [] {
    void* const torch_cuda = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    void* const symbol = torch_cuda == nullptr ? nullptr : dlsym(torch_cuda, "aoti_torch_get_current_cuda_stream");
    return reinterpret_cast<CurrentStream>(symbol);
  }();
  return found;
}

}  // namespace deformwarp::cuda
