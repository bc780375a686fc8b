// How kernels use threads without knowing whose they are.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace deformwarp {

// Hands out item numbers one after another. Which thread takes an item never changes its result.
class ItemQueue {
 public:
  explicit ItemQueue(int64_t count) : count_(count) {}

  bool pop(int64_t& item) {
    item = next_.fetch_add(1, std::memory_order_relaxed);
    return item < count_;
  }

 private:
  std::atomic<int64_t> next_{0};
  const int64_t count_;
};

struct Pool {
  int64_t threads;
  // Runs the function once on each of `workers` threads and waits for all of them.
  std::function<void(int64_t workers, const std::function<void()>&)> run;

  // worker(ItemQueue&) makes its scratch memory once and then takes items until none is left.
  template <class Worker>
  void for_each(int64_t items, const Worker& worker) const {
    ItemQueue queue(items);
    run(items < threads ? items : threads, [&] { worker(queue); });
  }
};

}  // namespace deformwarp
