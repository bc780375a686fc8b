// Who touched a word last, and whether anything orders that before what happens now.
//
// Two barriers order memory: block_barrier() among all threads of a block, warp_barrier() among the lanes of a warp.
// A stamp counts both. Blocks run one after another and the count of block barriers never restarts,
// so it also tells the blocks and the launches apart.
#pragma once

#include <cstdint>

namespace emulation {

// Bits, from the top: block epoch 32 | warp epoch 17 | thread 10 | several blocks, warps, lanes 3 | kind 2.
using Stamp = uint64_t;

enum StampKind : uint64_t {
  plain = 0,
  atomic = 1,
  in_flight = 2,  // the target of an asynchronous copy that nobody has waited for
  forbidden = 3,  // shared memory: a guard; global memory: never written
};
constexpr Stamp kind_bits = 3, several_lanes = 4, several_warps = 8, several_blocks = 16;
constexpr int thread_shift = 5, warp_epoch_shift = 15, epoch_shift = 32;
constexpr uint32_t largest_warp_epoch = (1u << (epoch_shift - warp_epoch_shift)) - 1;

constexpr Stamp make_stamp(uint32_t epoch, uint32_t warp_epoch, uint32_t thread) {
  return uint64_t(epoch) << epoch_shift | uint64_t(warp_epoch) << warp_epoch_shift | uint64_t(thread) << thread_shift;
}
constexpr uint32_t epoch_of(Stamp s) { return uint32_t(s >> epoch_shift); }
constexpr uint32_t thread_of(Stamp s) { return uint32_t(s >> thread_shift) & 1023; }
constexpr StampKind kind_of(Stamp s) { return StampKind(s & kind_bits); }
constexpr bool same_epoch(Stamp a, Stamp b) { return epoch_of(a) == epoch_of(b); }
constexpr bool same_thread(Stamp a, Stamp b) { return thread_of(a) == thread_of(b); }
constexpr bool same_warp(Stamp a, Stamp b) { return thread_of(a) / 32 == thread_of(b) / 32; }
constexpr bool same_warp_epoch(Stamp a, Stamp b) { return ((a ^ b) >> warp_epoch_shift) == 0; }

// Within one block: no barrier lies between the accesses of `before` and the one of `now`, and they are of two threads.
constexpr bool unordered(Stamp before, Stamp now) {
  if (!same_epoch(before, now)) return false;
  if ((before & several_warps) != 0 || !same_warp(before, now)) return true;
  if (!same_warp_epoch(before, now)) return false;
  return (before & several_lanes) != 0 || !same_thread(before, now);
}

// One stamp for earlier accesses together with the present one: it forgets only what is ordered before `now` for all
// who could conflict with it later.
constexpr Stamp joined(Stamp before, Stamp now) {
  if (!same_epoch(before, now)) return now;
  if ((before & several_warps) != 0) return before;
  if (!same_warp(before, now)) return before | several_warps;
  if (!same_warp_epoch(before, now)) return now;
  return same_thread(before, now) ? before : before | several_lanes;
}

}  // namespace emulation
