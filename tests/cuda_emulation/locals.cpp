// What -fsanitize=bounds,float-cast-overflow,integer-divide-by-zero calls: errors that no function of ptx.h can see,
// since they happen in a thread's own variables. They end the launch like all others.
#include <string>

#include "fault.h"

namespace {

struct Place {
  const char* file;
  unsigned line, column;
};

[[noreturn]] void report(const Place* place, const char* what) {
  emulation::fault(std::string(what) + ", line " + std::to_string(place->line));
}

}  // namespace

// The first member of what each is given is the place in the source.
extern "C" {
void __ubsan_handle_out_of_bounds(const Place* place, uintptr_t) { report(place, "an index is outside its array"); }
void __ubsan_handle_out_of_bounds_abort(const Place* place, uintptr_t) {
  report(place, "an index is outside its array");
}
void __ubsan_handle_float_cast_overflow(const Place* place, uintptr_t) {
  report(place, "a float is converted to an integer that cannot hold it");
}
void __ubsan_handle_divrem_overflow(const Place* place, uintptr_t, uintptr_t) {
  report(place, "an integer is divided by zero");
}
}
