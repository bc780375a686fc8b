// What one block may see of another: writes, memory_fence(), an atomic with a result; there an atomic, memory_fence(),
// reads. This is how "the last block adds up" works, and the only order between blocks of one launch.
#pragma once

#include <cstdint>
#include <vector>

#include "stamp.h"

namespace emulation {

class Publication {
 public:
  void start_launch(uint32_t epoch, uint32_t block_threads);
  void start_block(uint32_t epoch);

  void write() {
    Thread& thread = threads_[thread_of(now())];
    thread.write_epoch = epoch_of(now());
    thread.fenced = false;
  }
  void fence();
  void atomic_with_result();

  bool this_launch(Stamp stamp) const { return epoch_of(stamp) >= first_epoch_; }
  bool this_block(Stamp stamp) const { return epoch_of(stamp) >= blocks_.back().first_epoch; }

  // By an atomic with a result and a fence, the running thread sees what other blocks have published.
  bool acquired() const;

  // Why the running thread cannot rely on what another block of this launch did, or null.
  const char* why_unordered(Stamp other_block) const;

 private:
  struct Block {
    uint32_t first_epoch;
    uint32_t published_before = 0;  // epochs; by the last atomic before which everything written was fenced
  };
  struct Thread {
    uint32_t write_epoch = 0, fence_epoch = 0;  // of the last of each in this block
    bool fenced = true;                         // everything it wrote
    bool took_result = false, acquired = false;
  };

  static Stamp now();
  bool everything_fenced() const;

  uint32_t first_epoch_ = 0;
  uint32_t acquire_epoch_ = 0;  // of the first fence after an atomic with result in this block
  std::vector<Block> blocks_;   // that ran in this launch, in order; the last one runs
  std::vector<Thread> threads_;
};

inline Publication publication;

}  // namespace emulation
