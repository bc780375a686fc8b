// The planar backward's products of float32, each number the sum of two TF32 numbers.
#pragma once

#include "factors.h"
#include "planar_products.h"
#include "quads.h"

namespace deformwarp::cuda::planar {

// Products are what the planar backward is a template of.
template <int out_tiles>
class FloatProducts {
 public:
  using Layout = FloatProductsLayout<out_tiles>;

  // What a thread's samples are, as the first factor of (11).
  struct Values {
    Factors<float, 4> products[2];
    __device__ __forceinline__ void set(int tap, const float (&values)[4]) {
#pragma unroll
      for (int k = 0; k < 4; ++k) products[product_of(k)].set(2 * column_of(k) + tap, values[k]);
    }
  };

  // A thread's four pixels follow each other: column 2t + e of product j is pixel 4t + 2e + j of a warp's sixteen.
  static __device__ constexpr int column_of(int pixel) { return pixel / 2; }
  static __device__ constexpr int product_of(int pixel) { return pixel % 2; }

  float weight_sums[out_tiles][4] = {};

  __device__ FloatProducts(uint32_t shared, const Division& division, int tap_tile, int subset)
      : layout_(Layout::of(division)),
        part_(division, layout_.pixels),
        grads_(shared),
        tap_tile_(tap_tile),
        subset_(subset) {}

  // The first factors of (9) at sixteen taps, [out_tiles, 32] threads' four. By one warp.
  __device__ void write_weights(const Geometry& g, int channel, float scale) const {
#pragma unroll
    for (int out_tile = 0; out_tile < out_tiles; ++out_tile) {
      Factors<float, 4> four;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int number = tap_tile_ * warp_taps + fragment_row() + i % 2 * 8;
        four.set(i, scale * weight_at<float>(g, number, out_tile * 8 + i / 2 * 4 + fragment_quad(), channel));
      }
      shared_store(weights(out_tile), make_uint4(four.high[0], four.high[1], four.high[2], four.high[3]));
      shared_store(weights(out_tile) + 16, make_uint4(four.low[0], four.low[1], four.low[2], four.low[3]));
    }
  }

  __device__ __forceinline__ void copy(const Backward& p, int sample, int first_pixel) const {
    part_.copy<float, out_tiles>(p, sample, first_pixel,
                                 [&](int q) { return raw() + (q * layout_.pixels + part_.pixel) * 4; });
  }

  // For the tile that is under way. By all threads of the block.
  __device__ __forceinline__ void wait() const {
    copy_async_wait<0>();
    block_barrier();
    write_grads();
    block_barrier();
  }

  __device__ void start_tile() {}

  // (9). The scale is part of the weights.
  __device__ __forceinline__ void find_arriving(float (&arriving)[2][4]) const {
    const int pitch = layout_.arriving_pitch();
    const uint32_t at = grads_ + (fragment_quad() * pitch + subset_ * subset_pixels + fragment_row() * 2) * 8;
#pragma unroll
    for (int out_tile = 0; out_tile < out_tiles; ++out_tile) {
      Factors<float, 2> grads[2];
      load_factors(grads, at + out_tile * 4 * pitch * 8);
      const uint4 high = shared_load<uint4>(weights(out_tile)), low = shared_load<uint4>(weights(out_tile) + 16);
      const Factors<float, 4> four{{high.x, high.y, high.z, high.w}, {low.x, low.y, low.z, low.w}};
#pragma unroll
      for (int j = 0; j < 2; ++j) multiply_add<float>(arriving[j], four, grads[j]);
    }
  }

  // (11)
  __device__ __forceinline__ void add_to_weight_sums(const Values& values) {
    const int pitch = layout_.weight_pitch();
    const uint32_t at =
        grads_ +
        (layout_.arriving_words() + fragment_row() * pitch + subset_ * subset_pixels + fragment_quad() * 4) * 4;
#pragma unroll
    for (int out_tile = 0; out_tile < out_tiles; ++out_tile) {
      Factors<float, 2> grads[2];
      load_factors(grads, at + out_tile * 8 * pitch * 4);
#pragma unroll
      for (int j = 0; j < 2; ++j) add_product<float>(weight_sums[out_tile], values.products[j], grads[j]);
    }
  }

 private:
  // The tile as factors of both products.
  __device__ __forceinline__ void write_grads() const {
    const uint32_t weight = grads_ + layout_.arriving_words() * 4;
    const int pixel = part_.pixel;
#pragma unroll 1
    for (int q = part_.first_q; q < out_tiles * 8; q += part_.step_q) {
      const float4 four = shared_load<float4>(raw() + (q * layout_.pixels + pixel) * 4);
      Factors<float, 4> factors;  // pixels 0, 2, 1, 3
      factors.set(0, four.x);
      factors.set(1, four.z);
      factors.set(2, four.y);
      factors.set(3, four.w);
      const uint32_t weight_at = weight + (q * layout_.weight_pitch() + pixel) * 4;
      const uint32_t arriving_at =
          grads_ + ((((q / 8 * 4) + q % 4) * layout_.arriving_pitch() + pixel) * 2 + q / 4 % 2) * 4;
      const auto write = [&](const uint32_t (&words)[4], uint32_t part) {
        shared_store(weight_at + part, make_uint4(words[0], words[1], words[2], words[3]));
        shared_store(arriving_at + part, words[0]);
        shared_store(arriving_at + part + 8, words[2]);
        shared_store(arriving_at + part + 16, words[1]);
        shared_store(arriving_at + part + 24, words[3]);
      };
      write(factors.high, 0);
      write(factors.low, low_parts());
    }
  }

  // Two second factors side by side, of products 0 and 1.
  __device__ __forceinline__ void load_factors(Factors<float, 2> (&both)[2], uint32_t address) const {
    const uint4 high = shared_load<uint4>(address), low = shared_load<uint4>(address + low_parts());
    both[0] = {{high.x, high.y}, {low.x, low.y}};
    both[1] = {{high.z, high.w}, {low.z, low.w}};
  }

  __device__ __forceinline__ uint32_t weights(int out_tile) const {
    return grads_ + layout_.grad_bytes() + ((tap_tile_ * out_tiles + out_tile) * 32 + threadIdx.x % 32) * 32;
  }
  __device__ __forceinline__ uint32_t raw() const { return grads_ + layout_.grad_bytes() + layout_.weight_bytes(); }
  __device__ __forceinline__ uint32_t low_parts() const { return layout_.words() * 4; }

  const Layout layout_;
  const CopyPart part_;
  const uint32_t grads_;
  const int tap_tile_, subset_;
};

}  // namespace deformwarp::cuda::planar
