// Stands for the CUDA runtime: the device, and launches on it.
#pragma once

#include "block.h"

namespace emulation {

// Checks the configuration as the driver would, and runs the grid.
void launch(const void* kernel, const char* fallback_name, dim3 grid, dim3 block, size_t shared_bytes,
            const ThreadBody& thread);

// Faults where the emulated device is older than an instruction.
void require_architecture(int architecture, const char* instruction);

}  // namespace emulation
