#include "kernels/quant_matmul/emulated.h"

#include <cstring>

#include "kernels/quant_matmul/tile_product.h"
#include "kernels/tiles_emulated.h"

namespace deepseek::kernels {
namespace {

float half_at(const uint8_t* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return f16_to_f32(bits);
}

// Byte i of cell k, from the layout that packed.cc describes; 128 stands for zero, or for 0 where there are mins.
uint8_t centred(const PackedFormat& f, const uint8_t* block, int k, int i) {
  if (f.bits == 8) return block[k * 64 + i];
  int q = block[k / 2 * 64 + i] >> (k % 2 * 4) & 15;
  if (f.bits == 5) q |= (block[256 + i] >> k & 1) << 4;
  if (f.bits == 6) q |= (block[256 + k / 4 * 64 + i] >> (k % 4 * 2) & 3) << 4;
  return static_cast<uint8_t>(q + 128 - f.zero);
}

}  // namespace

void unpack_tile_plain(const PackedMatrix& w, int64_t tile, uint8_t* scratch) {
  const PackedFormat& f = w.format();
  const int64_t halves = 32 / f.block;
  auto* scales = reinterpret_cast<float*>(scratch + w.blocks() * 512);
  float* mins = scales + w.blocks() * halves * 16;
  for (int64_t b = 0; b < w.blocks(); ++b) {
    const uint8_t *block = w.values(tile, b), *at = w.scales(tile, b), *small = at + (f.mins ? 64 : 32);
    for (int i = 0; i < 512; ++i) scratch[b * 512 + i] = centred(f, block, i / 64, i % 64);
    for (int64_t r = 0; r < 16; ++r) {
      for (int64_t h = 0; h < halves; ++h) {
        const float s = f.super ? static_cast<float>(static_cast<int8_t>(small[(b % 8 * halves + h) * 16 + r])) : 1.0f;
        scales[(b * halves + h) * 16 + r] = half_at(at + 2 * r) * s;
      }
      if (!f.mins) continue;
      const float m = half_at(at + 32 + 2 * r);
      mins[b * 16 + r] = f.super ? (0.0f - m) * static_cast<float>(static_cast<int8_t>(small[(8 * halves + b % 8) * 16 + r])) : m;
    }
  }
}

void multiply_emulated(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch) {
  EmulatedTiles tiles;
  multiply_on(tiles, unpack_tile_plain, w, x, begin, end, out, stride, scratch);
}

}  // namespace deepseek::kernels
