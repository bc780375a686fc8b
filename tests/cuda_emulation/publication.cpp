#include "publication.h"

#include <algorithm>

#include "fault.h"

namespace emulation {

Stamp Publication::now() { return emulation::now; }

void Publication::start_launch(uint32_t epoch, uint32_t block_threads) {
  first_epoch_ = epoch;
  blocks_.clear();
  threads_.resize(block_threads);
}

void Publication::start_block(uint32_t epoch) {
  blocks_.push_back({epoch});
  std::fill(threads_.begin(), threads_.end(), Thread());
  acquire_epoch_ = 0;
}

void Publication::fence() {
  Thread& thread = threads_[thread_of(now())];
  thread.fence_epoch = epoch_of(now());
  thread.fenced = true;
  if (thread.took_result) {
    thread.acquired = true;
    if (acquire_epoch_ == 0) acquire_epoch_ = epoch_of(now());
  }
}

// A thread's writes are fenced by its own fence before a barrier before the atomic,
// or by the fence of the thread with the atomic after a barrier after the writes.
bool Publication::everything_fenced() const {
  const Thread& me = threads_[thread_of(now())];
  return std::all_of(threads_.begin(), threads_.end(), [&](const Thread& thread) {
    if (thread.write_epoch == 0) return true;
    if (&thread == &me) return thread.fenced;
    return (thread.fenced && thread.fence_epoch < epoch_of(now())) || thread.write_epoch < me.fence_epoch;
  });
}

void Publication::atomic_with_result() {
  if (everything_fenced()) blocks_.back().published_before = epoch_of(now()) + 1;
  threads_[thread_of(now())].took_result = true;
}

bool Publication::acquired() const {
  return threads_[thread_of(now())].acquired || (acquire_epoch_ != 0 && acquire_epoch_ < epoch_of(now()));
}

const char* Publication::why_unordered(Stamp other_block) const {
  constexpr const char* not_acquired = "without an atomic and a memory_fence() before this access";
  if (this_block(other_block)) return acquired() ? nullptr : not_acquired;  // one of several blocks
  const auto after = std::upper_bound(blocks_.begin(), blocks_.end(), epoch_of(other_block),
                                      [](uint32_t epoch, const Block& block) { return epoch < block.first_epoch; });
  if (epoch_of(other_block) >= std::prev(after)->published_before) {
    return "which did not fence and publish it by an atomic";
  }
  return acquired() ? nullptr : not_acquired;
}

}  // namespace emulation
