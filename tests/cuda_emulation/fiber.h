// A stack of its own for every thread of a block, and the switch from one to another.
#pragma once

#include <cstddef>

namespace emulation {

// Leaves the running stack, noting where in *from, and goes on where `to` was left.
void switch_stack(void** from, void* to);

// The stacks of a launch's threads, used by one block after another; below each lies a page that faults.
class Stacks {
 public:
  Stacks(size_t count, size_t bytes);
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  // What to switch to so that `entry`, which must never return, starts on stack number `index`.
  void* fresh(size_t index, void (*entry)());

 private:
  size_t count_, bytes_, page_;
  char* memory_;
};

}  // namespace emulation
