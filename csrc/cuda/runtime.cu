// The only calls of the CUDA runtime.
#include <cuda_runtime.h>
#include <cxxabi.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "device.h"

namespace deformwarp::cuda {
namespace {

void check(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // else the next one to ask would be told again
  throw std::runtime_error("deformwarp: " + what + ": " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) +
                           ")");
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "asking for a property of GPU " + std::to_string(device));
  return value;
}

std::string name_of(const void* kernel) {
  const char* mangled = nullptr;
#if CUDART_VERSION >= 12030  // the first that can tell
  cudaFuncGetName(&mangled, kernel);
#endif
  if (mangled == nullptr) return "a kernel";
  char* text = abi::__cxa_demangle(mangled, nullptr, nullptr, nullptr);
  const std::string name = text != nullptr ? text : mangled;
  std::free(text);
  return name;
}

}  // namespace

Device current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "asking for the current GPU");
  return {
      10 * attribute(cudaDevAttrComputeCapabilityMajor, device) + attribute(cudaDevAttrComputeCapabilityMinor, device),
      attribute(cudaDevAttrMultiProcessorCount, device),
      attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
      attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device),
      attribute(cudaDevAttrReservedSharedMemoryPerBlock, device),
      attribute(cudaDevAttrMaxThreadsPerMultiProcessor, device)};
}

void launch_kernel(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, Stream stream, void** arguments) {
  constexpr size_t without_asking = 48 << 10;
  if (shared_bytes > without_asking) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)),
          name_of(kernel) + " with " + std::to_string(shared_bytes) + " bytes of shared memory");
  }
  check(cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, static_cast<cudaStream_t>(stream)),
        "launching " + name_of(kernel));
}

}  // namespace deformwarp::cuda
