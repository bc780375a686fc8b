// A channel's plane with a margin of zeros, so that a sample needs no border cases: whatever an offset holds,
// the position clamped to [-2, H] x [-2, W] names a cell whose four pixels exist.
#pragma once

#include "scratch.h"
#include "storage.h"

namespace deformwarp::DEFORMWARP_ISA {

// Rows -2 … H + 1, each with its two left margin pixels; the end of a row borrows the margin of the next.
struct PlaneShape {
  int64_t height, width;

  int64_t pitch() const { return width + 2; }
  int64_t cells() const { return (height + 3) * pitch() + 2; }  // a cell is named by its upper left pixel
  int64_t pixels() const { return cells() + pitch(); }
  int64_t origin() const { return 2 * pitch() + 2; }  // of pixel (0, 0)
};

// (value, step to the row below) of every pixel: what load_corners reads.
template <class T>
class PairPlane {
 public:
  explicit PairPlane(PlaneShape shape) : shape_(shape), pairs_(make_scratch<T>(2 * shape.cells() + 4)) {
    std::fill_n(pairs_.get(), 2 * shape.cells() + 4, T(0));
  }

  template <class Stored>
  void fill(const Stored* pixels) {  // [H, W]
    const int64_t height = shape_.height, width = shape_.width;
    for (int64_t y = -1; y < height; ++y) {
      T* row = pairs_.get() + 2 * (shape_.origin() + y * shape_.pitch());
      const Stored* here = pixels + y * width;
      const Stored* below = here + width;
      if (y < 0) {
        for (int64_t x = 0; x < width; ++x) row[2 * x + 1] = widen(below[x]);
      } else if (y + 1 < height) {
        for (int64_t x = 0; x < width; ++x) {
          const T value = widen(here[x]);
          row[2 * x] = value;
          row[2 * x + 1] = T(widen(below[x])) - value;
        }
      } else {
        for (int64_t x = 0; x < width; ++x) {
          row[2 * x] = widen(here[x]);
          row[2 * x + 1] = -row[2 * x];
        }
      }
    }
  }

  const T* data() const { return pairs_.get(); }

 private:
  PlaneShape shape_;
  Scratch<T> pairs_;  // [cells, 2]; the margin stays 0
};

// Gradients of samples, gathered by cell: what each sample owes to its four pixels.
template <class T>
class CellPlane {
 public:
  explicit CellPlane(PlaneShape shape) : shape_(shape), cells_(make_scratch<T>(4 * shape.cells())) {}

  void clear() { std::fill_n(cells_.get(), 4 * shape_.cells(), T(0)); }
  T* data() { return cells_.get(); }

  // Hands every pixel what the four cells around it hold.
  void fold(T* grad_pixels) const {  // [H, W]
    const int64_t pitch = 4 * shape_.pitch();
    for (int64_t y = 0; y < shape_.height; ++y) {
      const T* here = cells_.get() + 4 * shape_.origin() + y * pitch;
      const T* above = here - pitch;
      for (int64_t x = 0; x < shape_.width; ++x) {
        grad_pixels[y * shape_.width + x] = (here[4 * x] + here[4 * x - 3]) + (above[4 * x + 2] + above[4 * x - 1]);
      }
    }
  }

 private:
  PlaneShape shape_;
  Scratch<T> cells_;  // [cells, 4]: top left, top right, bottom left, bottom right
};

}  // namespace deformwarp::DEFORMWARP_ISA
