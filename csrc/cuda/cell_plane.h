// The size of a plane of cells, for plans and kernels.
#pragma once

#include <cstdint>

#include "../bilinear.h"

namespace deformwarp::cuda {

// Rows and columns of cells by their number: 0 ... H are the rows -1 ... H - 1 of docs/mathematics.md (3), which touch
// the image. All others are row H + 1, and of it nothing but zeros is known. Columns likewise.
struct CellPlane {
  int height, width;

  DEFORMWARP_HOST_DEVICE int outside_row() const { return height + 1; }
  DEFORMWARP_HOST_DEVICE int outside_column() const { return width + 1; }
  DEFORMWARP_HOST_DEVICE int pitch() const { return width + 2; }
  DEFORMWARP_HOST_DEVICE int rows() const { return height + 2; }
  DEFORMWARP_HOST_DEVICE int cells() const { return rows() * pitch(); }
};

}  // namespace deformwarp::cuda
