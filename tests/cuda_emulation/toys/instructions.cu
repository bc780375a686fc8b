// Single instructions of ptx.h on arrays of bits: d[i] = op(a[i], b[i], c[i]).
#include "toy.h"

namespace deformwarp::cuda {

struct Params {
  const uint32_t *a, *b, *c;  // [size]
  uint32_t* d;                // [size]
  int op, size;
};

__device__ __forceinline__ uint32_t result(int op, uint32_t a, uint32_t b, uint32_t c) {
  const float x = bit_cast<float>(a), y = bit_cast<float>(b), z = bit_cast<float>(c);
  switch (op) {
    case 0:
      return fma_f16x2(a, b, c);
    case 1:
      return fma_relu_f16x2(a, b, c);
    case 2:
      return add_f16x2(a, b);
    case 3:
      return sub_f16x2(a, b);
    case 4:
      return mul_f16x2(a, b);
    case 5:
      return min_f16x2(a, b);
    case 6:
      return max_f16x2(a, b);
    case 10:
      return fma_bf16x2(a, b, c);
    case 11:
      return fma_relu_bf16x2(a, b, c);
    case 12:
      return add_bf16x2(a, b);
    case 13:
      return sub_bf16x2(a, b);
    case 14:
      return mul_bf16x2(a, b);
    case 15:
      return min_bf16x2(a, b);
    case 16:
      return max_bf16x2(a, b);
    case 20:
      return pack_f16(x, y);
    case 21:
      return pack_bf16(x, y);
    case 22:
      return bit_cast<uint32_t>(unpack_f16(a).x);
    case 23:
      return bit_cast<uint32_t>(unpack_f16(a).y);
    case 24:
      return bit_cast<uint32_t>(unpack_bf16(a).x);
    case 25:
      return bit_cast<uint32_t>(unpack_bf16(a).y);
    case 26:
      return to_f16(x);
    case 27:
      return to_bf16(x);
    case 28:
      return bit_cast<uint32_t>(from_f16(uint16_t(a)));
    case 29:
      return bit_cast<uint32_t>(from_bf16(uint16_t(a)));
    case 30:
      return to_tf32(x);
    case 31:
      return bit_cast<uint32_t>(fma_saturate(x, y, z));
    case 32:
      return uint32_t(floor_to_int(x));
    case 33:
      return uint32_t(round_to_int(x));
    case 34:
      return bit_cast<uint32_t>(reciprocal(x));
    case 35:
      return permute_bytes(a, b, c);
    case 36:
      return bit_cast<uint32_t>(add_round_down(x, y));
    case 37:
      return bit_cast<uint32_t>(subtract_saturate(x, y));
    case 38:
      return add_min(a, b, c);
    case 50:
      return add_saturate_f16x2(a, b);
    case 51:
      return broadcast_low(a);
    case 52:
      return broadcast_high(a);
    case 53:
      return add_min_u16x2(a, b, c);
    case 54:
      return greater_f16x2(a, b);
    case 40:
      return shuffle(a, b);
    case 41:
      return shuffle_xor(a, b);
    case 42:
      return shuffle_down(a, b);
    case 43:
      return ballot(a != 0);
    case 44:
      return transpose8x8(a);
    case 45:
      return lane_number();
    case 46:
      return uint32_t(shuffle(uint64_t(a) << 32 | b, c) >> 16);
    default:
      return 0;
  }
}

__global__ void instructions(const Params p) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const int at = min(i, p.size - 1);  // all lanes take part
  const uint32_t d = result(p.op, global_load(p.a + at), global_load(p.b + at), global_load(p.c + at));
  if (i < p.size) global_store(p.d + i, d);
}

void toy(const int* size, void* const* buffer) {
  launch(instructions, dim3((size[1] + 127) / 128), dim3(128), 0, nullptr,
         Params{static_cast<const uint32_t*>(buffer[0]), static_cast<const uint32_t*>(buffer[1]),
                static_cast<const uint32_t*>(buffer[2]), static_cast<uint32_t*>(buffer[3]), size[0], size[1]});
}

}  // namespace deformwarp::cuda
