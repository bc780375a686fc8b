#include "block.h"

#include <array>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "fiber.h"
#include "global_memory.h"
#include "publication.h"
#include "random.h"
#include "shared_memory.h"

namespace emulation {
namespace {

struct Copy {
  uint32_t target, bytes;
  char data[16];
};

struct Thread {
  void* stack_pointer;
  uint3 index;
  const char* waits_for;  // null: it can run, or has returned
  bool returned;
  bool barrier_value;
  std::vector<Copy> copies;        // issued, not landed
  std::vector<size_t> group_ends;  // of the committed groups among them
};

struct Warp {
  uint32_t members, ready, arrived, returned;  // a bit a lane
  uint32_t epoch;
  const char* instruction;  // that the arrived lanes wait in
  alignas(16) std::array<char, largest_operands * warp_size> operands;
};

struct Block {
  uint32_t epoch = 0;
  unsigned threads = 0, arrived = 0, returned = 0;
  bool barrier_value = false;
  uint32_t ready_warps = 0;
  unsigned current = 0;
  std::array<Thread, largest_block> thread;
  std::array<Warp, largest_block / warp_size> warp;
  void* scheduler_stack = nullptr;
  std::string failure;
  const ThreadBody* body = nullptr;
};

Block block;
Random order(0);
std::string kernel_name;

constexpr size_t stack_bytes = 128 << 10;

unsigned warp_of(unsigned thread) { return thread / warp_size; }
uint32_t lane_bit(unsigned thread) { return uint32_t(1) << thread % warp_size; }
Warp& current_warp() { return block.warp[warp_of(block.current)]; }
Thread& current_thread() { return block.thread[block.current]; }

void set_ready(unsigned warp, uint32_t lanes) {
  block.warp[warp].ready |= lanes;
  block.ready_warps |= uint32_t(1) << warp;
}

void set_waiting(const char* what) {
  Warp& warp = current_warp();
  current_thread().waits_for = what;
  warp.ready &= ~lane_bit(block.current);
  if (warp.ready == 0) block.ready_warps &= ~(uint32_t(1) << warp_of(block.current));
}

void enter(unsigned thread) {
  block.current = thread;
  threadIdx = block.thread[thread].index;
  now = make_stamp(block.epoch, block.warp[warp_of(thread)].epoch, thread);
}

unsigned any_of(uint32_t bits) {
  const unsigned turn = order.below(32);
  const uint32_t turned = turn == 0 ? bits : bits >> turn | bits << (32 - turn);
  return (__builtin_ctz(turned) + turn) % 32;
}

// Threads that wait for the same thing, as "shuffle: threads 0-15, 40".
std::string waiting() {
  std::string text;
  for (unsigned first = 0; first < block.threads; ++first) {
    const char* what = block.thread[first].waits_for;
    bool seen = what == nullptr;
    for (unsigned i = 0; i < first && !seen; ++i) {
      seen = block.thread[i].waits_for != nullptr && std::string(block.thread[i].waits_for) == what;
    }
    if (seen) continue;
    text += (text.empty() ? "" : "; ") + std::string(what) + ": threads";
    const auto waits = [&](unsigned t) {
      return t < block.threads && block.thread[t].waits_for != nullptr &&
             std::string(block.thread[t].waits_for) == what;
    };
    const char* separator = " ";
    for (unsigned t = first; t < block.threads; ++t) {
      if (!waits(t)) continue;
      unsigned last = t;
      while (waits(last + 1)) ++last;
      text += separator + std::to_string(t) + (last > t ? "-" + std::to_string(last) : "");
      separator = ", ";
      t = last;
    }
  }
  return text;
}

[[noreturn]] void leave_for_scheduler() {
  void* abandoned;
  switch_stack(&abandoned, block.scheduler_stack);
  __builtin_unreachable();
}

// Goes on with any thread that can run: mostly of the same warp, so that warps run far ahead of one another.
void run_another() {
  if (block.ready_warps == 0) {
    if (block.returned == block.threads) leave_for_scheduler();
    fault("deadlock: nobody can go on; waiting in " + waiting());
  }
  unsigned warp = warp_of(block.current);
  if (block.warp[warp].ready == 0 || order.below(8) == 0) warp = any_of(block.ready_warps);
  const unsigned next = warp * warp_size + any_of(block.warp[warp].ready);
  void** const left = &current_thread().stack_pointer;
  const bool stays = next == block.current;
  enter(next);
  if (!stays) switch_stack(left, block.thread[next].stack_pointer);
}

void thread_main() {
  block.body->run(block.body->call);
  Warp& warp = current_warp();
  if (warp.arrived != 0) {
    fault(std::string("the thread returned while lanes of its warp wait for it in ") + warp.instruction);
  }
  if (block.arrived != 0) fault("the thread returned while others wait for it in block_barrier");
  warp.returned |= lane_bit(block.current);
  ++block.returned;
  set_waiting(nullptr);
  current_thread().returned = true;
  run_another();
  __builtin_unreachable();
}

void start_threads(Stacks& stacks, dim3 size) {
  block.arrived = block.returned = 0;
  block.barrier_value = false;
  block.ready_warps = 0;
  for (unsigned w = 0; w * warp_size < block.threads; ++w) {
    Warp& warp = block.warp[w];
    const unsigned lanes = min(block.threads - w * warp_size, warp_size);
    warp.members = lanes == warp_size ? ~uint32_t(0) : (uint32_t(1) << lanes) - 1;
    warp.arrived = warp.returned = warp.ready = 0;
    warp.epoch = 0;
    warp.instruction = nullptr;
    set_ready(w, warp.members);
  }
  for (unsigned t = 0; t < block.threads; ++t) {
    Thread& thread = block.thread[t];
    thread.stack_pointer = stacks.fresh(t, thread_main);
    thread.index = {t % size.x, t / size.x % size.y, t / size.x / size.y};
    thread.waits_for = nullptr;
    thread.returned = false;
    thread.copies.clear();
    thread.group_ends.clear();
  }
}

void next_epoch() {
  ++block.epoch;
  for (unsigned w = 0; w * warp_size < block.threads; ++w) block.warp[w].epoch = 0;
}

void run_block(Stacks& stacks, dim3 size) {
  next_epoch();
  shared_memory.start_block(block.epoch);
  publication.start_block(block.epoch);
  start_threads(stacks, size);
  enter(any_of(block.ready_warps) * warp_size);
  switch_stack(&block.scheduler_stack, current_thread().stack_pointer);
  block.scheduler_stack = nullptr;
  if (!block.failure.empty()) throw std::runtime_error(block.failure);
}

std::string coordinates(uint3 i) {
  return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}

}  // namespace

void fault(const std::string& what) {
  if (block.scheduler_stack == nullptr) throw std::runtime_error("cuda emulation: outside of a kernel: " + what);
  block.failure = "cuda emulation: " + kernel_name + ", block " + coordinates(blockIdx) + ", thread " +
                  coordinates(threadIdx) + " (" + std::to_string(block.current) + "): " + what;
  leave_for_scheduler();
}

std::string who(Stamp stamp) {
  const bool others = (stamp & (several_lanes | several_warps | several_blocks)) != 0;
  return "thread " + std::to_string(thread_of(stamp)) + (others ? " and others" : "");
}

bool block_barrier(bool value) {
  if (block.returned != 0) fault("block_barrier, but threads of the block have returned");
  block.barrier_value |= value;
  if (++block.arrived < block.threads) {
    set_waiting("block_barrier");
    run_another();
  } else {
    for (unsigned t = 0; t < block.threads; ++t) {
      block.thread[t].waits_for = nullptr;
      block.thread[t].barrier_value = block.barrier_value;
    }
    for (unsigned w = 0; w * warp_size < block.threads; ++w) set_ready(w, block.warp[w].members);
    block.arrived = 0;
    block.barrier_value = false;
    next_epoch();
    run_another();
  }
  return current_thread().barrier_value;
}

void* lane_operands() { return &current_warp().operands[block.current % warp_size * largest_operands]; }

void meet(const char* instruction, void (*complete)(void* lanes)) {
  Warp& warp = current_warp();
  if (warp.returned != 0) fault(std::string(instruction) + ", but lanes of the warp have returned");
  if (warp.members != ~uint32_t(0)) fault(std::string(instruction) + " in a warp of fewer than 32 threads");
  if (warp.arrived == 0) warp.instruction = instruction;
  if (std::strcmp(warp.instruction, instruction) != 0) {
    fault(std::string("lanes of one warp diverge: this one is in ") + instruction + ", others wait in " +
          warp.instruction);
  }
  warp.arrived |= lane_bit(block.current);
  if (warp.arrived != warp.members) {
    set_waiting(instruction);
  } else {
    complete(warp.operands.data());
    warp.arrived = 0;
    const unsigned first = block.current / warp_size * warp_size;
    for (unsigned lane = 0; lane < warp_size; ++lane) block.thread[first + lane].waits_for = nullptr;
    set_ready(warp_of(block.current), warp.members);
  }
  run_another();
}

void warp_barrier() {
  meet("warp_barrier", [](void*) {
    if (++current_warp().epoch > largest_warp_epoch) fault("too many warp barriers between two block barriers");
  });
}

void copy_async(uint32_t target, const void* source, uint32_t bytes) {
  Copy copy{target, bytes, {}};
  if (source != nullptr) {
    global_memory.check_read(source, bytes, ReadPath::coherent);
    std::memcpy(copy.data, source, bytes);
  }
  shared_memory.expect_copy(target, bytes);
  current_thread().copies.push_back(copy);
}

void copy_async_commit() {
  Thread& thread = current_thread();
  thread.group_ends.push_back(thread.copies.size());
}

void copy_async_wait(size_t groups_in_flight) {
  Thread& thread = current_thread();
  if (thread.group_ends.size() <= groups_in_flight) return;
  const size_t groups = thread.group_ends.size() - groups_in_flight;
  const size_t landed = thread.group_ends[groups - 1];
  for (size_t i = 0; i < landed; ++i) {
    const Copy& copy = thread.copies[i];
    shared_memory.land_copy(copy.target, copy.bytes, copy.data);
  }
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + landed);
  thread.group_ends.erase(thread.group_ends.begin(), thread.group_ends.begin() + groups);
  for (size_t& end : thread.group_ends) end -= landed;
}

void set_seed(uint64_t seed) { order = Random(seed); }

void run_grid(const std::string& kernel, dim3 grid, dim3 size, uint32_t shared_bytes, const ThreadBody& thread) {
  kernel_name = kernel;
  blockDim = size;
  gridDim = grid;
  block.threads = size.x * size.y * size.z;
  block.body = &thread;
  block.failure.clear();
  shared_memory.resize(shared_bytes);
  publication.start_launch(block.epoch + 1, block.threads);
  Stacks stacks(block.threads, stack_bytes);
  std::vector<uint64_t> blocks(uint64_t(grid.x) * grid.y * grid.z);
  std::iota(blocks.begin(), blocks.end(), 0);
  for (size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[order.below(i)]);
  for (const uint64_t b : blocks) {
    blockIdx = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)};
    run_block(stacks, size);
  }
}

}  // namespace emulation
