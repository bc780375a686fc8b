// The shared memory of the block that runs, with a shadow that knows who wrote and who read every two bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "fault.h"
#include "stamp.h"

namespace emulation {

class SharedMemory {
 public:
  // As on the device from sm_90 on: the first KiB is not the kernel's, so an address without its base is caught.
  static constexpr uint32_t base = 1024;
  static constexpr uint32_t granule = 2;  // bytes: the smallest access

  // For a new launch; values and stamps of earlier launches stay, but count as unwritten.
  void resize(uint32_t bytes) {
    bytes_ = bytes;
    const size_t granules = (bytes + 15) / 16 * 16 / granule;
    if (writes_.size() < granules) {
      values_.resize(granules * granule);
      writes_.resize(granules, 0);
      reads_.resize(granules, 0);
    }
  }

  void start_block(uint32_t first_epoch) { first_epoch_ = first_epoch; }

  template <class T>
  T load(uint32_t address) {
    const uint32_t at = locate(address, sizeof(T), "shared_load");
    for (uint32_t g = at / granule; g < (at + sizeof(T)) / granule; ++g) {
      const Stamp written = writes_[g];
      if (unwritten(written)) fault_unwritten(g);
      if (kind_of(written) >= in_flight) fault_forbidden(g, "read");
      if (unordered(written, now)) fault_race(g, written, "written", "read");
      reads_[g] = joined(reads_[g], now);
    }
    T value;
    std::memcpy(&value, &values_[at], sizeof(T));
    return value;
  }

  template <class T>
  void store(uint32_t address, T value) {
    const uint32_t at = locate(address, sizeof(T), "shared_store");
    for (uint32_t g = at / granule; g < (at + sizeof(T)) / granule; ++g) writes_[g] = checked_write(g, now);
    std::memcpy(&values_[at], &value, sizeof(T));
  }

  template <class T>
  T fetch_add(uint32_t address, T value) {
    const uint32_t at = locate(address, sizeof(T), "shared_add");
    for (uint32_t g = at / granule; g < (at + sizeof(T)) / granule; ++g) {
      const Stamp written = writes_[g];
      if (unwritten(written)) fault_unwritten(g);
      if (kind_of(written) >= in_flight) fault_forbidden(g, "added to");
      if (unordered(reads_[g], now)) fault_race(g, reads_[g], "read", "added to");
      if (kind_of(written) == atomic) {
        writes_[g] = joined(written, now) | atomic;
      } else {
        if (unordered(written, now)) fault_race(g, written, "written", "added to");
        writes_[g] = now | atomic;
      }
    }
    T before;
    std::memcpy(&before, &values_[at], sizeof(T));
    const T after = before + value;
    std::memcpy(&values_[at], &after, sizeof(T));
    return before;
  }

  // An asynchronous copy may write from now on: nobody may touch its target before it lands.
  void expect_copy(uint32_t address, uint32_t bytes) {
    const uint32_t at = locate(address, bytes, "copy_async");
    for (uint32_t g = at / granule; g < (at + bytes) / granule; ++g) writes_[g] = checked_write(g, now | in_flight);
  }
  void land_copy(uint32_t address, uint32_t bytes, const void* data) {
    const uint32_t at = address - base;
    for (uint32_t g = at / granule; g < (at + bytes) / granule; ++g) writes_[g] = now;
    std::memcpy(&values_[at], data, bytes);
  }

  // Bytes that nobody may touch until the block ends.
  void forbid(uint32_t address, uint32_t bytes) {
    const uint32_t at = locate(address, granule, "shared_guard");
    for (uint32_t g = at / granule; g < (at + bytes) / granule && g < bytes_ / granule; ++g) {
      if (!unwritten(writes_[g]) && kind_of(writes_[g]) != forbidden) fault_forbidden(g, "forbidden after it was used");
      writes_[g] = make_stamp(first_epoch_, 0, 0) | forbidden;
    }
  }

 private:
  bool unwritten(Stamp written) const { return epoch_of(written) < first_epoch_; }

  uint32_t locate(uint32_t address, uint32_t bytes, const char* access) const {
    const uint32_t at = address - base;  // wraps around below the base: too large
    if (uint64_t(at) + bytes > bytes_) fault_outside(address, bytes, access);
    if (at % bytes != 0) fault_misaligned(address, bytes, access);
    return at;
  }

  Stamp checked_write(uint32_t g, Stamp stamp) const {
    const Stamp written = writes_[g];
    if (!unwritten(written)) {
      if (kind_of(written) >= in_flight) fault_forbidden(g, "written");
      if (unordered(written, stamp)) fault_race(g, written, "written", "written");
      if (unordered(reads_[g], stamp)) fault_race(g, reads_[g], "read", "written");
    }
    return stamp;
  }

  [[noreturn]] void fault_unwritten(uint32_t g) const;
  [[noreturn]] void fault_forbidden(uint32_t g, const char* what) const;
  [[noreturn]] void fault_race(uint32_t g, Stamp before, const char* earlier, const char* later) const;
  [[noreturn]] void fault_outside(uint32_t address, uint32_t bytes, const char* access) const;
  [[noreturn]] void fault_misaligned(uint32_t address, uint32_t bytes, const char* access) const;

  uint32_t bytes_ = 0;
  uint32_t first_epoch_ = 0;  // of the block that runs
  std::vector<char> values_;
  std::vector<Stamp> writes_, reads_;  // a granule each
};

inline SharedMemory shared_memory;

}  // namespace emulation
