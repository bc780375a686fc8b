// Which GPUs the kernels of a build run on.
#pragma once

#include <sstream>
#include <string>

namespace deformwarp::cuda {

// `built` is CMake's list, with spaces: "75-real 80-real 120-virtual". Machine code (real) runs on its own major
// version's devices from its minor version on, PTX (virtual) on everything newer; a bare number stands for both.
inline bool runs_on(const std::string& built, int architecture) {
  std::istringstream list(built);
  for (std::string entry; list >> entry;) {
    const int version = std::stoi(entry);
    const bool machine_code = entry.find("-virtual") == std::string::npos;
    const bool ptx = entry.find("-real") == std::string::npos;
    if (machine_code && architecture / 10 == version / 10 && architecture >= version) return true;
    if (ptx && architecture >= version) return true;
  }
  return false;
}

}  // namespace deformwarp::cuda
