// The block that runs: its threads as fibers, in a shuffled order, and the places where they wait for one another.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

#include "device_language.h"
#include "fault.h"

namespace emulation {

constexpr unsigned warp_size = 32, largest_block = 1024;

// __syncthreads_or(): waits for all threads of the block; whether any of them brought true.
bool block_barrier(bool value);

// __syncwarp(): orders memory among the lanes of a warp.
void warp_barrier();

// What the lanes of a warp bring to an instruction that they execute together.
constexpr size_t largest_operands = 64;

// The running lane's place in its warp's common operands; all 32 lie one behind another, largest_operands apart.
void* lane_operands();
// Waits until all lanes have come to the same instruction; the last computes for all of them.
void meet(const char* instruction, void (*complete)(void* lanes));

// An instruction that the 32 lanes of a warp execute together: `Complete` turns their operands into their results.
template <class Operands, void (*Complete)(Operands (&)[warp_size])>
Operands together(const char* instruction, Operands mine) {
  static_assert(sizeof(Operands) <= largest_operands && std::is_trivially_copyable_v<Operands>);
  void* const place = lane_operands();
  std::memcpy(place, &mine, sizeof(Operands));
  meet(instruction, [](void* lanes) {
    Operands operands[warp_size];
    for (unsigned i = 0; i < warp_size; ++i) {
      std::memcpy(&operands[i], static_cast<char*>(lanes) + i * largest_operands, sizeof(Operands));
    }
    Complete(operands);
    for (unsigned i = 0; i < warp_size; ++i) {
      std::memcpy(static_cast<char*>(lanes) + i * largest_operands, &operands[i], sizeof(Operands));
    }
  });
  Operands result;
  std::memcpy(&result, place, sizeof(Operands));
  return result;
}

// Asynchronous copies of the running thread; they land when it waits.
void copy_async(uint32_t target, const void* source, uint32_t bytes);
void copy_async_commit();
void copy_async_wait(size_t groups_in_flight);

// What every thread of a launch does: a call of the kernel with its parameters.
struct ThreadBody {
  void (*run)(const void* call);
  const void* call;
};

// Runs all blocks of a launch; throws std::runtime_error with what went wrong in which thread.
void run_grid(const std::string& kernel, dim3 grid, dim3 block, uint32_t shared_bytes, const ThreadBody& thread);

void set_seed(uint64_t seed);

}  // namespace emulation
