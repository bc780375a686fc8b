// Coordinates of float16 samples, two at a time. The offset is split into integer and fraction, not the position: both
// are exact, where a position in float16 would be off by 1/32 pixel.
#pragma once

#include "ptx.h"

namespace deformwarp::cuda::planar {

// docs/mathematics.md (3) along one axis, of two pixels: row or column of the cell, and the fraction, which is any
// number of [0, 1] outside the image.
struct HalfCoordinates {
  uint32_t cells, fractions;
};

// 1536 is 0x6600: added to a float16 of less than 512 it leaves an integer in the low bits. Offsets of 512 and more
// stay outside, see why_not().
constexpr uint32_t half_shift = 0x66006600u;

// The integers of (2), such that those of a tap and of a pixel can be added.
__device__ __forceinline__ uint32_t half_tap_word(int n) { return uint32_t(uint16_t(n + 1 - 0x6600)) * 0x10001u; }
__device__ __forceinline__ uint32_t half_pixel_word(int n) { return n * 0x10001u; }

// At the integers in `words` and `extra`, which are two small ones.
__device__ __forceinline__ HalfCoordinates locate_halves(uint32_t offsets, uint32_t words, uint32_t outside,
                                                         uint32_t extra = 0) {
  const uint32_t shift = half_shift + extra, nearest = add_f16x2(offsets, shift);
  const uint32_t below = sub_f16x2(nearest, greater_f16x2(sub_f16x2(nearest, shift), offsets));
  return {add_min_u16x2(below, words, outside), add_saturate_f16x2(offsets, sub_f16x2(shift, below))};
}

// The same where the sample's value is all that is wanted: of an integer either side will do, and n = round(offset -
// 1/2) is right up to that.
__device__ __forceinline__ HalfCoordinates locate_halves_on_either_side(uint32_t offsets, uint32_t words,
                                                                        uint32_t outside, uint32_t extra = 0) {
  const uint32_t shift = half_shift + extra, below = add_f16x2(add_f16x2(offsets, 0xb800b800u), shift);
  return {add_min_u16x2(below, words, outside), add_saturate_f16x2(offsets, sub_f16x2(shift, below))};
}

}  // namespace deformwarp::cuda::planar
