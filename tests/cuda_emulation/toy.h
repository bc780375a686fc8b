// Frame of the toy kernels: they use the very headers of csrc/cuda, and Python calls them through run().
#pragma once

#include <exception>
#include <string>

#include "launch.h"
#include "ptx.h"

namespace deformwarp::cuda {
// A toy's host code.
void toy(const int* size, void* const* buffer);
}  // namespace deformwarp::cuda

// The text of what was thrown, or null.
extern "C" __attribute__((visibility("default"))) const char* run(const int* size, void* const* buffer) {
  static std::string error;
  try {
    deformwarp::cuda::toy(size, buffer);
    return nullptr;
  } catch (const std::exception& caught) {
    error = caught.what();
    return error.c_str();
  }
}
