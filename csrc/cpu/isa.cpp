#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "kernels.h"

namespace deformwarp {

#if defined(__x86_64__)
namespace avx512 {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
#endif
namespace plain {
extern const Kernels kernels;
}

namespace {

const std::vector<const Kernels*>& runnable() {
  static const std::vector<const Kernels*> list = [] {
    std::vector<const Kernels*> found;
#if defined(__x86_64__)
    for (const Kernels* set : {&avx512::kernels, &avx2::kernels}) {
      if (set->runs_here()) found.push_back(set);
    }
#endif
    found.push_back(&plain::kernels);
    return found;
  }();
  return list;
}

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> set{runnable().front()};
  return set;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_acquire); }

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Kernels* set : runnable()) names.emplace_back(set->isa);
  return names;
}

std::string current_isa() { return kernels().isa; }

void use_isa(const std::string& name) {
  for (const Kernels* set : runnable()) {
    if (name == set->isa) return chosen().store(set, std::memory_order_release);
  }
  throw std::invalid_argument("isa: '" + name + "' does not run on this processor");
}

}  // namespace deformwarp
