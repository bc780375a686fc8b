// The planar backward's products of float16 and bfloat16. grad_output is a factor as it lies in memory, and the
// samples' values are rounded to the tensors' type.
#pragma once

#include "planar_products.h"

namespace deformwarp::cuda::planar {

// Products are what the planar backward is a template of.
template <class T, int out_tiles>
class HalfProducts {
 public:
  using Layout = HalfProductsLayout<out_tiles>;

  // What a thread's samples are, as the first factor of (11).
  struct Values {
    uint32_t pairs[4];
    __device__ __forceinline__ void set(int tap, const float (&values)[4]) {
      pairs[tap] = pack(values[0], values[1]);
      pairs[tap + 2] = pack(values[2], values[3]);
    }
    __device__ __forceinline__ void set(int tap, uint2 values) {
      pairs[tap] = values.x;
      pairs[tap + 2] = values.y;
    }
  };

  // A thread's four pixels follow each other: column 2t + e of product j is pixel 4t + 2j + e of a warp's sixteen.
  static __device__ constexpr int column_of(int pixel) { return pixel % 2; }
  static __device__ constexpr int product_of(int pixel) { return pixel / 2; }

  float weight_sums[out_tiles][4] = {};

  __device__ HalfProducts(uint32_t shared, const Division& division, int tap_tile, int subset)
      : layout_(Layout::of(division)),
        part_(division, layout_.pixels),
        weights_(shared + ((tap_tile * Layout::depths) * 32 + threadIdx.x % 32) * 16),
        buffers_(shared + layout_.weight_bytes()),
        mine_(layout_.at(fragment_row(), subset * subset_pixels + fragment_quad() * 4)),
        tile_bytes_(division.tile_pixels() / 4 * Layout::quad_bytes),
        tap_tile_(tap_tile) {}

  // The first factors of (9) at sixteen taps, [depths, 32] threads' four. By one warp.
  __device__ void write_weights(const Geometry& g, int channel, float scale) const {
#pragma unroll
    for (int depth = 0; depth < Layout::depths; ++depth) {
      uint32_t pairs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int number = tap_tile_ * warp_taps + fragment_row() + i % 2 * 8;
        const int q = depth * 16 + i / 2 * 8 + fragment_quad() * 2;
        pairs[i] = pack(scale * weight_at<T>(g, number, q, channel), scale * weight_at<T>(g, number, q + 1, channel));
      }
      shared_store(weights_ + depth * 32 * 16, make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]));
    }
  }

  __device__ __forceinline__ void copy(const Backward& p, int sample, int first_pixel) {
    buffer_ = layout_.buffer_bytes() - buffer_;
    part_.copy<T, out_tiles>(p, sample, first_pixel,
                             [&](int q) { return buffers_ + buffer_ + layout_.at(q, part_.pixel); });
  }

  // For the tiles that are under way. By all threads of the block.
  __device__ __forceinline__ void wait() {
    copy_async_wait<0>();
    block_barrier();
    tile_at_ = buffers_ + buffer_ + mine_;
  }

  // The next of those that came.
  __device__ __forceinline__ void start_tile() {
#pragma unroll
    for (int out_tile = 0; out_tile < out_tiles; ++out_tile) {
      const uint2 quad = shared_load<uint2>(tile_at_ + out_tile * 8);
      grads_[out_tile][0] = quad.x;
      grads_[out_tile][1] = quad.y;
    }
    tile_at_ += tile_bytes_;
  }

  // (9). Rows of grad_output are columns of (11)'s second factor, and rows of this one's. The scale is part of the
  // weights.
  __device__ __forceinline__ void find_arriving(float (&arriving)[2][4]) const {
    uint32_t grads[2][out_tiles];
#pragma unroll
    for (int i = 0; i < out_tiles * 2; ++i) grads[i % 2][i / 2] = transpose8x8(grads_[i / 2][i % 2]);
#pragma unroll
    for (int depth = 0; depth < out_tiles / 2; ++depth) {
      const uint4 words = shared_load<uint4>(weights_ + depth * 32 * 16);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        multiply(arriving[j], {words.x, words.y, words.z, words.w}, {grads[j][depth * 2], grads[j][depth * 2 + 1]});
      }
    }
    if constexpr (out_tiles % 2 == 1) {
      const uint2 words = shared_load<uint2>(weights_ + out_tiles / 2 * 32 * 16);
#pragma unroll
      for (int j = 0; j < 2; ++j) multiply(arriving[j], {words.x, words.y}, {grads[j][out_tiles - 1]});
    }
  }

  // (11)
  __device__ __forceinline__ void add_to_weight_sums(const Values& values) {
#pragma unroll
    for (int out_tile = 0; out_tile < out_tiles; ++out_tile) {
      multiply(weight_sums[out_tile], values.pairs, grads_[out_tile]);
    }
  }

 private:
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    if constexpr (std::is_same_v<T, Half>) return pack_f16(low, high);
    return pack_bf16(low, high);
  }
  static __device__ __forceinline__ void multiply(float (&sums)[4], const uint32_t (&a)[2], const uint32_t (&b)[1]) {
    if constexpr (std::is_same_v<T, Half>) {
      mma_f16_k8(sums, a, b);
    } else {
      mma_bf16_k8(sums, a, b);
    }
  }
  static __device__ __forceinline__ void multiply(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    if constexpr (std::is_same_v<T, Half>) {
      mma_f16(sums, a, b);
    } else {
      mma_bf16(sums, a, b);
    }
  }

  const Layout layout_;
  const CopyPart part_;
  const uint32_t weights_, buffers_, mine_, tile_bytes_;
  const int tap_tile_;
  uint32_t buffer_ = 0;           // of the latest copy, in bytes from the first
  uint32_t tile_at_;              // the next tile's four pixels of this thread
  uint32_t grads_[out_tiles][2];  // second factors of (11)
};

}  // namespace deformwarp::cuda::planar
