// Memory that one worker uses and reuses: aligned to vectors, not initialised.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#include "simd.h"

namespace deformwarp::DEFORMWARP_ISA {

// The number of elements a row of vectors takes that holds `count` elements.
template <class T>
constexpr int64_t padded(int64_t count) {
  return (count + lanes<T> - 1) / lanes<T> * lanes<T>;
}

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};

template <class T>
using Scratch = std::unique_ptr<T[], FreeMemory>;

template <class T>
Scratch<T> make_scratch(int64_t count) {
  constexpr size_t line = 64;  // a cache line, and the widest vector
  const size_t bytes = (size_t(count) * sizeof(T) + line) / line * line;
  void* memory = std::aligned_alloc(line, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return Scratch<T>(static_cast<T*>(memory));
}

}  // namespace deformwarp::DEFORMWARP_ISA
