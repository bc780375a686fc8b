// One set of kernels per instruction set; all are in the library, and one is chosen at run time.
#pragma once

#include <string>
#include <vector>

#include "../problem.h"
#include "pool.h"

namespace deformwarp {

struct Kernels {
  const char* isa;
  bool (*runs_here)();
  void (*forward)(const Problem&, const Output&, const Pool&);
  void (*backward)(const Problem&, const Gradients&, const Pool&);
};

// The kernels in use: the widest that run on this processor, or those that use_isa() asked for.
const Kernels& kernels();

// Names of the instruction sets in the library that run on this processor, widest first.
std::vector<std::string> available_isas();
std::string current_isa();

// Takes the kernels of that name from now on; throws std::invalid_argument where they cannot run here.
void use_isa(const std::string& name);

}  // namespace deformwarp
