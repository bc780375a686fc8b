// How a kernel's error ends its launch.
#pragma once

#include <string>

#include "stamp.h"

namespace emulation {

// The running thread's place among all accesses of the process; the scheduler keeps it.
inline Stamp now = 0;

// Ends the launch: it throws std::runtime_error with kernel, block, thread and this text.
[[noreturn]] void fault(const std::string& what);

// "thread 5", and that there were others.
std::string who(Stamp stamp);

}  // namespace emulation
