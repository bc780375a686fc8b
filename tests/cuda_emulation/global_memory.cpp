#include "global_memory.h"

#include <algorithm>
#include <stdexcept>

#include "publication.h"

namespace emulation {

void GlobalMemory::add(const void* begin, size_t bytes, Content content) {
  if (bytes == 0) return;
  Range range{reinterpret_cast<uintptr_t>(begin), reinterpret_cast<uintptr_t>(begin) + bytes, {}, {}};
  const size_t granules = (bytes + granule - 1) / granule;
  if (content == Content::defined) range.writes.resize(granules);
  if (content == Content::undefined) {
    range.writes.assign(granules, Stamp(forbidden));
    std::memset(const_cast<void*>(begin), 0xff, bytes);  // NaN in every floating type
  }
  // Tensors may share memory that is only read: such ranges become one.
  for (size_t i = 0; i < ranges_.size();) {
    Range& other = ranges_[i];
    const bool overlap = other.begin < range.end && range.begin < other.end;
    if (overlap && (other.writable() || range.writable())) {
      throw std::invalid_argument("cuda emulation: a writable range overlaps another");
    }
    if (overlap) {
      range.begin = std::min(range.begin, other.begin);
      range.end = std::max(range.end, other.end);
      ranges_.erase(ranges_.begin() + i);
    } else {
      ++i;
    }
  }
  const auto place = std::upper_bound(ranges_.begin(), ranges_.end(), range.begin,
                                      [](uintptr_t at, const Range& other) { return at < other.begin; });
  ranges_.insert(place, std::move(range));
  last_ = 0;
}

void GlobalMemory::clear() { ranges_.clear(); }

bool GlobalMemory::this_launch(Stamp stamp) { return publication.this_launch(stamp); }

bool GlobalMemory::conflict(Stamp before) {
  if (!publication.this_launch(before)) return false;
  if ((before & several_blocks) != 0 && !publication.acquired()) return true;
  if (publication.this_block(before)) return unordered(before, now);
  return publication.why_unordered(before) != nullptr;
}

Stamp GlobalMemory::joined_over_blocks(Stamp before) {
  if (!publication.this_launch(before)) return now;
  const bool others = !publication.this_block(before) || (before & several_blocks) != 0;
  return joined(before, now) | (others ? several_blocks : 0);
}

std::string GlobalMemory::place(const void* address) const {
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (const Range& range : ranges_) {
    if (at >= range.begin && at < range.end) {
      return "byte " + std::to_string(at - range.begin) + " of a buffer of " + std::to_string(range.end - range.begin) +
             " bytes";
    }
  }
  const Range* nearest = nullptr;
  const auto distance = [at](const Range& r) { return at < r.begin ? r.begin - at : at - r.end; };
  for (const Range& range : ranges_) {
    if (nearest == nullptr || distance(range) < distance(*nearest)) nearest = &range;
  }
  if (nearest == nullptr) return "global memory, of which the kernel was given none,";
  return at < nearest->begin ? std::to_string(nearest->begin - at) + " bytes before the nearest buffer"
                             : std::to_string(at - nearest->end) + " bytes behind the nearest buffer's end";
}

void GlobalMemory::fault_outside(const void* address, size_t bytes, const char* what) const {
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (const Range& range : ranges_) {
    if (at >= range.begin && at < range.end) {
      fault(std::to_string(bytes) + " bytes are " + what + " from " + place(address) + " on, beyond its end");
    }
  }
  fault("out of bounds: " + place(address) + " are " + std::to_string(bytes) + " bytes " + what);
}

void GlobalMemory::fault_misaligned(const void* address, size_t bytes, const char* what) const {
  fault(place(address) + " is " + what + " as " + std::to_string(bytes) + " bytes: misaligned");
}

void GlobalMemory::fault_read_only(const void* address) const {
  fault(place(address) + ", which is read-only, is written");
}

void GlobalMemory::fault_undefined(const void* address) const {
  fault(place(address) + " is read, but was never written");
}

void GlobalMemory::fault_constant(const void* address, Stamp written) const {
  fault(place(address) + " is read through the read-only path, but " + who(written) +
        " wrote it in this launch: global_load_coherent() sees it");
}

void GlobalMemory::fault_constant_changes(const void* address, Stamp read) const {
  fault(place(address) + " is written, but " + who(read) + " read it through the read-only path in this launch");
}

void GlobalMemory::fault_race(const void* address, Stamp before, const char* earlier, const char* later) const {
  const std::string what = "race: " + place(address) + " was " + earlier + " by ";
  if (publication.this_block(before) && (before & several_blocks) == 0)
    fault(what + who(before) + " and is " + later + " without a barrier between");
  fault(what + "another block, " + publication.why_unordered(before) + ", and is " + later);
}

}  // namespace emulation
