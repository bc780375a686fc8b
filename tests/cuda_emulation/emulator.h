// All that csrc/cuda/ptx.h and csrc/cuda/launch.h need where there is no nvcc.
#pragma once

#include "block.h"
#include "device_language.h"
#include "global_memory.h"
#include "publication.h"
#include "runtime.h"
#include "shared_memory.h"
