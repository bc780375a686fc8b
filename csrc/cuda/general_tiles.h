// How the general kernels cut a matrix product, shared by the kernels and their plans.
#pragma once

#include <cstdint>

namespace deformwarp::cuda::general {

// A block's share of a matrix product: every thread keeps thread_rows x thread_columns sums in registers.
template <int Rows, int Columns, int ThreadRows, int ThreadColumns>
struct Tile {
  static constexpr int rows = Rows, columns = Columns;
  static constexpr int thread_rows = ThreadRows, thread_columns = ThreadColumns;
  static constexpr int row_threads = Rows / ThreadRows, column_threads = Columns / ThreadColumns;
  static_assert(row_threads * column_threads == 128, "all general kernels run 128 threads");
};

constexpr int threads = 128;
constexpr int warps = threads / 32;

// Sixteen bytes beside every row of a shared matrix that is written along its columns: the writes of a warp then fall
// on different banks, and rows stay aligned for 16-byte reads.
template <class T>
constexpr int padding = 16 / int(sizeof(T));

// Forward (8): rows are output channels, columns output pixels; the depth is walked in chunks of input channels.
template <int Rows>
struct ForwardTile;
template <>
struct ForwardTile<8> : Tile<8, 64, 4, 1> {};
template <>
struct ForwardTile<32> : Tile<32, 64, 4, 4> {};
template <>
struct ForwardTile<64> : Tile<64, 64, 8, 4> {};

constexpr int forward_pixels = 64;
constexpr int forward_depth = 16;

// Two buffers, so that one is filled while the other is multiplied.
template <class T, int Rows>
struct ForwardShared {
  static constexpr int weight_pitch = Rows + padding<T>;
  static constexpr int weight_bytes = forward_depth * weight_pitch * int(sizeof(T));    // [depth, rows]
  static constexpr int sample_bytes = forward_depth * forward_pixels * int(sizeof(T));  // [depth, pixels]
  static constexpr int buffer_bytes = weight_bytes + sample_bytes;
  static constexpr int bytes = 2 * buffer_bytes;
};

// What arrives at the samples (9): rows are input channels, columns output pixels, the depth is output channels.
template <int Rows>
struct SamplingTile;
template <>
struct SamplingTile<8> : Tile<8, 128, 2, 4> {};
template <>
struct SamplingTile<32> : Tile<32, 128, 8, 4> {};

constexpr int sampling_pixels = 128;  // one a thread: it sums its pixel's channels in order, alone

template <class T, int Rows>
struct SamplingShared {
  static constexpr int depth = 64 / int(sizeof(T));  // float64 gets by with the 64 KB of sm_75
  static constexpr int weight_pitch = Rows + padding<T>;
  static constexpr int weight_bytes = depth * weight_pitch * int(sizeof(T));      // [depth, rows]
  static constexpr int grad_bytes = depth * sampling_pixels * int(sizeof(T));     // [depth, pixels]
  static constexpr int arriving_bytes = Rows * sampling_pixels * int(sizeof(T));  // [rows, pixels]
  static constexpr int buffer_bytes = weight_bytes + grad_bytes;
  static constexpr int bytes = 2 * buffer_bytes + arriving_bytes;
};

// The weight's gradient (11): rows are output channels, columns input channels, the depth is output pixels.
template <int Rows>
struct WeightTile;
template <>
struct WeightTile<8> : Tile<8, 16, 1, 1> {};
template <>
struct WeightTile<32> : Tile<32, 32, 4, 2> {};
template <>
struct WeightTile<64> : Tile<64, 64, 8, 4> {};

constexpr int weight_pixels = 32;  // one a lane

template <class T, int Rows>
struct WeightShared {
  static constexpr int grad_pitch = Rows + padding<T>;
  static constexpr int sample_pitch = WeightTile<Rows>::columns + padding<T>;
  static constexpr int grad_bytes = weight_pixels * grad_pitch * int(sizeof(T));      // [pixels, rows]
  static constexpr int sample_bytes = weight_pixels * sample_pitch * int(sizeof(T));  // [pixels, columns]
  static constexpr int bytes = grad_bytes + sample_bytes;
};

}  // namespace deformwarp::cuda::general
