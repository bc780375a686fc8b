#include "shared_memory.h"

namespace emulation {
namespace {

std::string place(uint32_t at) { return "byte " + std::to_string(at) + " of shared memory"; }

std::string sized(const char* access, uint32_t bytes) {
  return std::string(access) + " of " + std::to_string(bytes) + " bytes ";
}

}  // namespace

void SharedMemory::fault_unwritten(uint32_t g) const { fault(place(g * granule) + " is read, but was never written"); }

void SharedMemory::fault_forbidden(uint32_t g, const char* what) const {
  const std::string why = kind_of(writes_[g]) == in_flight
                              ? " while a copy by " + who(writes_[g]) + " is in flight: it was not waited for"
                          : kind_of(writes_[g]) == forbidden ? ", which is a guard between two regions"
                                                             : "";
  fault(place(g * granule) + " is " + what + why);
}

void SharedMemory::fault_race(uint32_t g, Stamp before, const char* earlier, const char* later) const {
  fault("race: " + place(g * granule) + " was " + earlier + " by " + who(before) + " and is " + later +
        " without a barrier between");
}

void SharedMemory::fault_outside(uint32_t address, uint32_t bytes, const char* access) const {
  fault(sized(access, bytes) + "at " + std::to_string(int64_t(address) - base) + " is outside the " +
        std::to_string(bytes_) + " bytes of shared memory");
}

void SharedMemory::fault_misaligned(uint32_t address, uint32_t bytes, const char* access) const {
  fault(sized(access, bytes) + "at " + std::to_string(address - base) + " is misaligned");
}

}  // namespace emulation
