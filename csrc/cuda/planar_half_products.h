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
  };

  // A thread's four pixels follow each other: column 2t + e of product j is pixel 4t + 2j + e of a warp's sixteen.
  static __device__ constexpr int column_of(int pixel) { return pixel % 2; }
  static __device__ constexpr int product_of(int pixel) { return pixel / 2; }

  float weight_sums[out_tiles][4] = {};

  __device__ HalfProducts(uint32_t shared, const Division& division, int tap_tile, int subset)
      : layout_(Layout::of(division)),
        part_(division),
        weights_(shared + ((tap_tile * Layout::depths) * 32 + threadIdx.x % 32) * 16),
        buffers_(shared + layout_.weight_bytes()),
        mine_((fragment_row() * layout_.pitch() + subset * subset_pixels + fragment_quad() * 4) * 2),
        tap_tile_(tap_tile) {}

  // The first factors of (9) at sixteen taps, [depths, 32] threads' four. By one warp.
  __device__ void write_weights(const Geometry& g, int channel) const {
#pragma unroll
    for (int depth = 0; depth < Layout::depths; ++depth) {
      uint32_t pairs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int number = tap_tile_ * warp_taps + fragment_row() + i % 2 * 8;
        const int q = depth * 16 + i / 2 * 8 + fragment_quad() * 2;
        pairs[i] = pack(weight_at<T>(g, number, q, channel), weight_at<T>(g, number, q + 1, channel));
      }
      shared_store(weights_ + depth * 32 * 16, make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]));
    }
  }

  __device__ __forceinline__ void copy(const Backward& p, int sample, int first_pixel) {
    arriving_buffer_ ^= 1;
    part_.template copy<T, out_tiles>(buffer(arriving_buffer_), layout_.pitch(), p, sample, first_pixel);
  }

  // For the tile that is under way. By all threads of the block.
  __device__ __forceinline__ void wait() {
    copy_async_wait<0>();
    block_barrier();
#pragma unroll
    for (int out_tile = 0; out_tile < out_tiles; ++out_tile) {
      const uint2 quad = shared_load<uint2>(buffer(arriving_buffer_) + mine_ + out_tile * 8 * layout_.pitch() * 2);
      grads_[out_tile][0] = quad.x;
      grads_[out_tile][1] = quad.y;
    }
  }

  // (9). Rows of grad_output are columns of (11)'s second factor, and rows of this one's.
  __device__ __forceinline__ void find_arriving(float (&arriving)[2][4], float scale) const {
#pragma unroll
    for (int depth = 0; depth < Layout::depths; ++depth) {
      const uint4 words = shared_load<uint4>(weights_ + depth * 32 * 16);
      const uint32_t four[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const bool both = depth * 2 + 1 < out_tiles;
        const uint32_t grads[2] = {transpose8x8(grads_[depth * 2][j]),
                                   both ? transpose8x8(grads_[both ? depth * 2 + 1 : 0][j]) : 0};
        multiply(arriving[j], four, grads);
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) arriving[i / 4][i % 4] *= scale;
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
  static __device__ __forceinline__ void multiply(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    if constexpr (std::is_same_v<T, Half>) {
      mma_f16(sums, a, b);
    } else {
      mma_bf16(sums, a, b);
    }
  }
  __device__ __forceinline__ uint32_t buffer(int number) const { return buffers_ + number * layout_.buffer_bytes(); }

  const Layout layout_;
  const TilePart part_;
  const uint32_t weights_, buffers_, mine_;
  const int tap_tile_;
  int arriving_buffer_ = 0;
  uint32_t grads_[out_tiles][2];  // second factors of (11)
};

}  // namespace deformwarp::cuda::planar
