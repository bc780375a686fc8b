// Value and derivatives of one bilinear sample: the only statement of that mathematics.
// T is a scalar or a vector of samples; the functions hold for the host and the device alike.
#pragma once

#ifdef __CUDACC__
#define DEFORMWARP_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define DEFORMWARP_HOST_DEVICE inline
#endif

namespace deformwarp {

// The four pixels around a sample. The lower row is kept as its difference from the upper one:
// kernels store planes that way, and every formula below wants the difference.
template <class T>
struct Corners {
  T left, left_step;    // v(y, x),     v(y + 1, x)     - v(y, x)
  T right, right_step;  // v(y, x + 1), v(y + 1, x + 1) - v(y, x + 1)
};

// docs/mathematics.md (4): the sample's value at fractions (ly, lx) in [0, 1).
template <class T>
DEFORMWARP_HOST_DEVICE T bilinear_value(const Corners<T>& c, T ly, T lx) {
  const T left = c.left + ly * c.left_step;
  const T right = c.right + ly * c.right_step;
  return left + lx * (right - left);
}

// docs/mathematics.md (5): its derivative by y.
template <class T>
DEFORMWARP_HOST_DEVICE T bilinear_dy(const Corners<T>& c, T lx) {
  return c.left_step + lx * (c.right_step - c.left_step);
}

// docs/mathematics.md (6): its derivative by x.
template <class T>
DEFORMWARP_HOST_DEVICE T bilinear_dx(const Corners<T>& c, T ly) {
  return (c.right - c.left) + ly * (c.right_step - c.left_step);
}

// The same four pixels as the coefficients of (4) to (6): one load where shared memory is wide, one operation fewer.
template <class T>
struct Cell {
  T value, dx, dy, dxdy;  // of the upper left pixel: its value, its slopes, and the slopes' slope
};

template <class T>
DEFORMWARP_HOST_DEVICE Cell<T> cell_of(const Corners<T>& c) {
  return {c.left, c.right - c.left, c.left_step, c.right_step - c.left_step};
}

// (5), (6) and (4) on a cell.
template <class T>
DEFORMWARP_HOST_DEVICE T cell_dy(const Cell<T>& c, T lx) {
  return c.dy + lx * c.dxdy;
}

template <class T>
DEFORMWARP_HOST_DEVICE T cell_dx(const Cell<T>& c, T ly) {
  return c.dx + ly * c.dxdy;
}

template <class T>
DEFORMWARP_HOST_DEVICE T cell_value(const Cell<T>& c, T ly, T lx) {
  return (c.value + ly * c.dy) + lx * cell_dx(c, ly);
}

// docs/mathematics.md (7): how a sample's gradient is shared among its four pixels.
template <class T>
struct CornerGradients {
  T top_left, top_right, bottom_left, bottom_right;
};

template <class T>
DEFORMWARP_HOST_DEVICE CornerGradients<T> bilinear_scatter(T grad, T ly, T lx) {
  const T right = grad * lx;
  const T left = grad - right;
  const T bottom_right = right * ly;
  const T bottom_left = left * ly;
  return {left - bottom_left, right - bottom_right, bottom_left, bottom_right};
}

}  // namespace deformwarp
