// The planar backward's launch: what a block does, and what it is given.
#pragma once

#include "cell_plane.h"
#include "planar_problem.h"

namespace deformwarp::cuda::planar {

// A warp has sixteen taps of its own, and of every tile of pixels sixteen: of those a thread has two taps, four pixels.
constexpr int warp_taps = 16, subset_pixels = 16;
// With 128 registers a thread; where factors have two parts, or sums are many, with 168.
DEFORMWARP_HOST_DEVICE constexpr int backward_warps(int element_bytes, int out_tiles) {
  return element_bytes == 4 || out_tiles == 4 ? 12 : 16;
}
constexpr int max_taps = warp_taps * 12;
constexpr int finish_threads = 256, extrema_threads = 256;

DEFORMWARP_HOST_DEVICE constexpr int tap_tiles_of(int total_taps) { return (total_taps + warp_taps - 1) / warp_taps; }

// How the warps of a block share its work.
struct Division {
  int tap_tiles;  // of sixteen taps
  int subsets;    // of a tile's pixels

  DEFORMWARP_HOST_DEVICE Division(int total_taps, int most_warps)
      : tap_tiles(tap_tiles_of(total_taps)), subsets(most_warps / tap_tiles) {}

  DEFORMWARP_HOST_DEVICE int warps() const { return tap_tiles * subsets; }
  DEFORMWARP_HOST_DEVICE int tile_pixels() const { return subsets * subset_pixels; }
  // That HalfProducts copies at once: what a barrier costs is shared among them.
  DEFORMWARP_HOST_DEVICE int tiles_a_copy() const {
    constexpr int most_pixels = 320;
    return tile_pixels() * 4 <= most_pixels ? 4 : tile_pixels() * 2 <= most_pixels ? 2 : 1;
  }
};

// What FloatProducts keeps in shared memory: grad_output of one tile of pixels as second factors of the tensor cores,
// high parts and behind them low ones, the first factors of (9), and the tile as it comes. Sizes in 4-byte words.
template <int out_tiles>
struct FloatProductsLayout {
  int pixels, tap_tiles;

  DEFORMWARP_HOST_DEVICE static FloatProductsLayout of(const Division& d) { return {d.tile_pixels(), d.tap_tiles}; }
  // For (9): [out_tiles, 4, pixels] pairs of output channels q and q + 4. The pitch puts four rows in different banks.
  DEFORMWARP_HOST_DEVICE int arriving_pitch() const { return pixels + (20 - pixels % 16) % 16; }
  DEFORMWARP_HOST_DEVICE int arriving_words() const { return out_tiles * 4 * arriving_pitch() * 2; }
  // For (11): [8 * out_tiles, pixels], of every four pixels 0, 2, 1, 3. The pitch puts two rows in different banks.
  DEFORMWARP_HOST_DEVICE int weight_pitch() const { return pixels + (48 - pixels % 32) % 32; }
  DEFORMWARP_HOST_DEVICE int words() const { return arriving_words() + out_tiles * 8 * weight_pitch(); }
  DEFORMWARP_HOST_DEVICE uint32_t grad_bytes() const { return words() * 8; }
  DEFORMWARP_HOST_DEVICE uint32_t weight_bytes() const { return tap_tiles * out_tiles * 32 * 32; }
  DEFORMWARP_HOST_DEVICE uint32_t bytes() const { return grad_bytes() + weight_bytes() + out_tiles * 8 * pixels * 4; }
};

// What HalfProducts keeps there: the first factors of (9), and of two copies grad_output as [8, pixels / 4] times the
// four pixels of `out_tiles` output channels, eight apart, which a thread reads by one address.
template <int out_tiles>
struct HalfProductsLayout {
  static constexpr int depths = (out_tiles + 1) / 2;  // of sixteen output channels
  static constexpr uint32_t quad_bytes = out_tiles * 8;
  int pixels, tap_tiles;

  DEFORMWARP_HOST_DEVICE static HalfProductsLayout of(const Division& d) {
    return {d.tile_pixels() * d.tiles_a_copy(), d.tap_tiles};
  }
  // The pitch puts four rows in different banks.
  DEFORMWARP_HOST_DEVICE uint32_t pitch_bytes() const {
    constexpr uint32_t bank_bytes = 128, rest = out_tiles == 3 ? 96 : 8;
    const uint32_t bytes = pixels / 4 * quad_bytes;
    return bytes + (bank_bytes + rest - bytes % bank_bytes) % bank_bytes;
  }
  // Within a buffer, of output channel q.
  DEFORMWARP_HOST_DEVICE uint32_t at(int q, int pixel) const {
    return q % 8 * pitch_bytes() + pixel / 4 * quad_bytes + q / 8 * 8;
  }
  DEFORMWARP_HOST_DEVICE uint32_t weight_bytes() const { return tap_tiles * depths * 32 * 16; }
  DEFORMWARP_HOST_DEVICE uint32_t buffer_bytes() const { return 8 * pitch_bytes(); }
  DEFORMWARP_HOST_DEVICE uint32_t bytes() const { return weight_bytes() + 2 * buffer_bytes(); }
};

DEFORMWARP_HOST_DEVICE constexpr uint32_t round_up_to_16(uint32_t bytes) { return (bytes + 15) / 16 * 16; }

struct Backward {
  Geometry geometry;
  const void* grad_output;          // [N, C_out, Ho, Wo]
  void* grad_offset[max_branches];  // [N, 2*C*K, Ho, Wo], or null
  void* grad_input;                 // [N, C, H, W], or null
  void* grad_weight;                // [D, C_out, C, Kh, Kw], or null
  int out_tiles;                    // of eight output channels
  int tiles;                        // of a sample's pixels
  int segments;                     // of the tiles of all samples: a block has one of them, for one channel
  int tile_pixels;
  int step_rows, step_columns;  // from a tile to the next, in pixels of the output
  int tiles_a_copy;             // of grad_output
  int element_bytes;
  int tiles_a_flush;    // that grad_input's sums have room for: some copies
  float* largest;       // [N, C_out]: of |grad_output|
  int64_t* input_sums;  // [N, C, H, W]: fixed-point grad_input, docs/mathematics.md (13)
  int* exponents;       // [N, C]: of input_sums
  float* weight_sums;   // [segments, C, 16 * tap_tiles, 8 * out_tiles], or null
};

}  // namespace deformwarp::cuda::planar
