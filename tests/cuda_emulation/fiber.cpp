#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>

#include <vector>
#endif

namespace emulation {

#if defined(__x86_64__)

// The callee-saved registers of the System V calling convention.
asm(R"(
.text
.p2align 4
emulation_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
constexpr size_t saved_words = 8;  // six registers, the return address, and a word that aligns the entry's frame
constexpr size_t entry_word = 6;

#elif defined(__aarch64__)

// The callee-saved registers of the AAPCS64 calling convention.
asm(R"(
.text
.p2align 4
emulation_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
constexpr size_t saved_words = 20;
constexpr size_t entry_word = 11;

#endif

#if defined(__x86_64__) || defined(__aarch64__)

extern "C" void emulation_switch_stack(void** from, void* to);

void switch_stack(void** from, void* to) { emulation_switch_stack(from, to); }

static void* prepare(char*, char* top, void (*entry)()) {
  auto* frame = reinterpret_cast<uintptr_t*>(top) - saved_words;
  for (size_t i = 0; i < saved_words; ++i) frame[i] = 0;
  frame[entry_word] = reinterpret_cast<uintptr_t>(entry);
  return frame;
}

#else

// Everywhere else the C library's contexts: slower, for they make a system call. They live at the stacks' tops.
void switch_stack(void** from, void* to) {
  ucontext_t here;
  *from = &here;
  swapcontext(&here, static_cast<ucontext_t*>(to));
}

static void* prepare(char* bottom, char* top, void (*entry)()) {
  auto* context = new (top - sizeof(ucontext_t)) ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = bottom;
  context->uc_stack.ss_size = reinterpret_cast<char*>(context) - bottom;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return context;
}

#endif

Stacks::Stacks(size_t count, size_t bytes) : count_(count), page_(sysconf(_SC_PAGESIZE)) {
  bytes_ = (bytes + page_ - 1) / page_ * page_ + page_;
  void* memory =
      mmap(nullptr, count_ * bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
  for (size_t i = 0; i < count_; ++i) mprotect(memory_ + i * bytes_, page_, PROT_NONE);
}

Stacks::~Stacks() { munmap(memory_, count_ * bytes_); }

void* Stacks::fresh(size_t index, void (*entry)()) {
  char* const begin = memory_ + index * bytes_;
  // Tops at different places within a page: else all stacks would share a few sets of the first-level cache.
  const size_t colour = index * 320 % page_ / 64 * 64;
  return prepare(begin + page_, begin + bytes_ - colour, entry);
}

}  // namespace emulation
