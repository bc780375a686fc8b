// All taps of all branches as one list, the branch fastest: neighbours in it read different parts of a plane, which
// keeps their loads in different banks.
#pragma once

#include "planar_problem.h"
#include "ptx.h"

namespace deformwarp::cuda::planar {

struct TapNumber {
  int branch, i, j;

  __device__ TapNumber(const Geometry& g, int number) {
    const int tap = number / g.branches;
    branch = number - tap * g.branches;
    i = tap / g.kernel_w;
    j = tap - i * g.kernel_w;
  }

  __device__ int tap(const Geometry& g) const { return i * g.kernel_w + j; }

  // docs/mathematics.md (2): the integers that are the tap's own.
  __device__ int shift_y(const Geometry& g) const {
    return g.branch[branch].dilation_h * i - g.branch[branch].padding_h;
  }
  __device__ int shift_x(const Geometry& g) const {
    return g.branch[branch].dilation_w * j - g.branch[branch].padding_w;
  }
};

}  // namespace deformwarp::cuda::planar
