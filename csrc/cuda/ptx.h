// Every instruction that only the hardware has, each beside its meaning in plain C++.
//
// Kernels reach memory, neighbouring threads and tensor cores through these functions and nothing else. That makes them
// run on a CPU unchanged: there, tests/cuda_emulation gives the functions their plain meaning and checks every access.
#pragma once

#include "ptx/arithmetic.h"
#include "ptx/async_copy.h"
#include "ptx/global_memory.h"
#include "ptx/half.h"
#include "ptx/matrix.h"
#include "ptx/shared_memory.h"
#include "ptx/synchronise.h"
#include "ptx/warp.h"
