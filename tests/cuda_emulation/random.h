// Small and fast random numbers for the order of threads (xorshift64*).
#pragma once

#include <cstdint>

namespace emulation {

class Random {
 public:
  explicit Random(uint64_t seed) : state_((seed + 1) * 0x9e3779b97f4a7c15u) {}  // never 0 for seeds below 2^64 - 1

  // In [0, bound), near enough to uniform for bounds far below 2^32.
  uint64_t below(uint64_t bound) {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return ((state_ * 0x2545f4914f6cdd1du) >> 32) * bound >> 32;
  }

 private:
  uint64_t state_;
};

}  // namespace emulation
