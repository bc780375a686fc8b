// The ranges of memory that kernels may touch, with a shadow of those they may write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "fault.h"
#include "stamp.h"

namespace emulation {

enum class Content { read_only, undefined, defined };  // of a range that kernels get; the last two are writable

// How a kernel reads: `coherent` sees what this launch wrote; `constant` takes the path that may not.
enum class ReadPath : uint64_t { coherent = 0, constant = 1 };

class GlobalMemory {
 public:
  static constexpr size_t granule = 2;  // bytes: the smallest access

  void add(const void* begin, size_t bytes, Content content);
  void clear();

  void check_read(const void* address, size_t bytes, ReadPath path) {
    Range& range = locate(address, bytes, "read");
    if (!range.writable()) return;
    range.need_reads();
    for_granules(range, address, bytes, [&](size_t g) {
      const Stamp written = range.writes[g];
      if (kind_of(written) == forbidden) fault_undefined(address);
      if (path == ReadPath::constant && this_launch(written)) fault_constant(address, written);
      if (conflict(written)) fault_race(address, written, "written", "read");
      range.reads[g] = joined_over_blocks(range.reads[g]) | Stamp(path);
    });
  }

  void check_write(const void* address, size_t bytes) {
    Range& range = locate_writable(address, bytes);
    for_granules(range, address, bytes, [&](size_t g) {
      const Stamp written = range.writes[g];
      if (kind_of(written) != forbidden && conflict(written)) fault_race(address, written, "written", "written");
      check_readers(range, g, address, "written");
      range.writes[g] = now;
    });
  }

  void check_atomic(const void* address, size_t bytes) {
    Range& range = locate_writable(address, bytes);
    for_granules(range, address, bytes, [&](size_t g) {
      const Stamp written = range.writes[g];
      if (kind_of(written) == forbidden) fault_undefined(address);
      if (kind_of(written) == atomic) {
        range.writes[g] = joined_over_blocks(written) | atomic;
      } else {
        if (conflict(written)) fault_race(address, written, "written", "added to");
        range.writes[g] = now | atomic;
      }
      check_readers(range, g, address, "added to");
    });
  }

 private:
  struct Range {
    uintptr_t begin, end;
    std::vector<Stamp> writes, reads;  // a granule each; writes only where writable, reads from the first read on

    bool writable() const { return !writes.empty(); }
    void need_reads() {
      if (reads.empty()) reads.resize(writes.size());
    }
  };

  Range& locate(const void* address, size_t bytes, const char* what) {
    const auto at = reinterpret_cast<uintptr_t>(address);
    if (at % bytes != 0) fault_misaligned(address, bytes, what);
    if (last_ < ranges_.size() && at >= ranges_[last_].begin && at + bytes <= ranges_[last_].end) return ranges_[last_];
    size_t low = 0, high = ranges_.size();  // the last range that begins at or before the address lies in [low, high)
    while (high - low > 1) {
      const size_t middle = (low + high) / 2;
      (ranges_[middle].begin <= at ? low : high) = middle;
    }
    if (high == 0 || at < ranges_[low].begin || at + bytes > ranges_[low].end) fault_outside(address, bytes, what);
    last_ = low;
    return ranges_[low];
  }

  Range& locate_writable(const void* address, size_t bytes) {
    Range& range = locate(address, bytes, "written");
    if (!range.writable()) fault_read_only(address);
    return range;
  }

  template <class Visit>
  static void for_granules(const Range& range, const void* address, size_t bytes, Visit visit) {
    const size_t at = reinterpret_cast<uintptr_t>(address) - range.begin;
    for (size_t g = at / granule; g < (at + bytes + granule - 1) / granule; ++g) visit(g);
  }

  void check_readers(const Range& range, size_t g, const void* address, const char* later) const {
    if (range.reads.empty() || !this_launch(range.reads[g])) return;
    const Stamp read = range.reads[g];
    if ((read & Stamp(ReadPath::constant)) != 0) fault_constant_changes(address, read);
    if (conflict(read)) fault_race(address, read, "read", later);
  }

  static bool this_launch(Stamp stamp);
  static bool conflict(Stamp before);  // nothing orders it before now
  static Stamp joined_over_blocks(Stamp before);

  [[noreturn]] void fault_outside(const void* address, size_t bytes, const char* what) const;
  [[noreturn]] void fault_misaligned(const void* address, size_t bytes, const char* what) const;
  [[noreturn]] void fault_read_only(const void* address) const;
  [[noreturn]] void fault_undefined(const void* address) const;
  [[noreturn]] void fault_constant(const void* address, Stamp written) const;
  [[noreturn]] void fault_constant_changes(const void* address, Stamp read) const;
  [[noreturn]] void fault_race(const void* address, Stamp before, const char* earlier, const char* later) const;
  std::string place(const void* address) const;

  std::vector<Range> ranges_;  // by address, disjoint
  size_t last_ = 0;            // where the last access was
};

inline GlobalMemory global_memory;

}  // namespace emulation
