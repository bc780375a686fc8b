#include "runtime.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdlib>
#include <mutex>
#include <stdexcept>

#include "../../csrc/cuda/device.h"
#include "../../csrc/cuda/kernel_memory.h"
#include "block.h"
#include "fault.h"
#include "global_memory.h"

namespace {

using deformwarp::cuda::Device;

Device device{90, 132, 227 << 10, 228 << 10, 1 << 10, 2048};

// One launch at a time: the block that runs, its memory and its threads are the process's.
std::recursive_mutex machine;

std::string demangled(const char* name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  const std::string result = status == 0 ? text : name;
  std::free(text);
  return result;
}

// Kernels without external linkage have no symbol to be found by: the type of their parameters names them.
std::string name_of(const void* kernel, const char* parameters) {
  Dl_info found;
  if (dladdr(kernel, &found) != 0 && found.dli_sname != nullptr && found.dli_saddr == kernel) {
    return demangled(found.dli_sname);
  }
  return "kernel of " + demangled(parameters);
}

void require(bool holds, const std::string& kernel, const std::string& what) {
  if (!holds) throw std::runtime_error("cuda emulation: " + kernel + ": " + what);
}

}  // namespace

namespace emulation {

void launch(const void* kernel, const char* parameters, dim3 grid, dim3 block, size_t shared_bytes,
            const ThreadBody& thread) {
  const std::lock_guard lock(machine);
  const std::string name = name_of(kernel, parameters);
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  require(threads > 0 && threads <= largest_block && block.z <= 64, name,
          "blocks of " + std::to_string(threads) + " threads cannot be launched");
  require(grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffff && grid.y <= 0xffff && grid.z <= 0xffff, name,
          "a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z) +
              " blocks cannot be launched");
  require(shared_bytes <= size_t(device.shared_bytes_per_block), name,
          std::to_string(shared_bytes) + " bytes of shared memory are more than the device's " +
              std::to_string(device.shared_bytes_per_block));
  run_grid(name, grid, block, uint32_t(shared_bytes), thread);
}

void require_architecture(int architecture, const char* instruction) {
  if (device.architecture < architecture) {
    fault(std::string(instruction) + " needs sm_" + std::to_string(architecture) + ", and the device is sm_" +
          std::to_string(device.architecture));
  }
}

}  // namespace emulation

namespace deformwarp::cuda {

Device current_device() { return device; }

KernelMemory::KernelMemory() { machine.lock(); }
KernelMemory::~KernelMemory() {
  emulation::global_memory.clear();
  machine.unlock();
}
void KernelMemory::reads(const void* begin, size_t bytes) {
  emulation::global_memory.add(begin, bytes, emulation::Content::read_only);
}
void KernelMemory::writes(void* begin, size_t bytes) {
  emulation::global_memory.add(begin, bytes, emulation::Content::undefined);
}
void KernelMemory::updates(void* begin, size_t bytes) {
  emulation::global_memory.add(begin, bytes, emulation::Content::defined);
}

}  // namespace deformwarp::cuda

// For tests, by ctypes.
extern "C" {

#define EXPORTED __attribute__((visibility("default")))

EXPORTED void emulation_seed(uint64_t seed) { emulation::set_seed(seed); }

EXPORTED void emulation_device(const Device* replacement) { device = *replacement; }

EXPORTED void emulation_memory(const void* begin, size_t bytes, int content) {
  emulation::global_memory.add(begin, bytes, emulation::Content(content));
}

EXPORTED void emulation_forget_memory() { emulation::global_memory.clear(); }
}
