// Products on tile registers, over any machine with the members of AmxTiles (kernels/tiles.h): for quant_matmul_amx.cc, and for the test's
// file with emulated tiles.
//
// A tile product takes 16 cycles; for integers the conversion of its 16x16 sums by their scales takes about 28, bound by loads, where
// VNNI and the same conversion take about 88: some 3 times the speed. bf16 needs no conversion: up to 8 times. Both by counting only.
#pragma once

#include "kernels/lanes.h"
#include "kernels/quant_matmul/quant_matmul.h"
#include "kernels/tiles.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kTileBytes = 1024;  // 16 rows of 64 bytes

/// As unpack_tile_avx512 in implementations.h.
using Unpack = void (*)(const PackedMatrix& w, int64_t tile, uint8_t* scratch);

// 16 cells side by side, [16 cells][16 rows][4 bytes], become rows: [16 rows][64 bytes]. `flip` says which bits turn.
DEEPSEEK_INLINE void cells_to_rows(const uint8_t* from, uint8_t* to, int32_t flip) {
  Ints v[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) v[i] = load<Ints>(from + 64 * i);
  transpose(v);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) store(to + 64 * i, v[i] ^ flip);
}

// v: [16 outputs][16 tokens] f32.
DEEPSEEK_INLINE void write_outputs(Ints (&v)[16], int64_t tokens, int64_t rows, float* out, int64_t stride) {
  transpose(v);
#pragma GCC unroll 16
  for (int t = 0; t < 16; ++t) {
    if (t >= tokens) return;
    if (rows >= kTileRows) store(out + t * stride, v[t]);
    else __builtin_memcpy(out + t * stride, &v[t], static_cast<size_t>(rows) * 4);
  }
}

DEEPSEEK_INLINE int64_t tokens_of(const PackedRows& x, int64_t group) {
  const int64_t left = x.tokens() - group * x.width();
  return left < x.width() ? left : x.width();
}

// A tile of weights that share a scale in `Step` columns: signed bytes [columns / 64][16 rows][64], scales [columns / Step][16 rows], mins
// [columns / 32][16 rows]. Scales and mins lie where unpack_tile_avx512 left them.
template <int Step>
struct TileOfIntegers {
  const uint8_t* values;
  const float *scales, *mins;

  [[gnu::always_inline]] TileOfIntegers(Unpack unpack, const PackedMatrix& w, int64_t tile, uint8_t* scratch)
      : values(scratch), scales(reinterpret_cast<const float*>(scratch + w.blocks() * 512)), mins(scales + w.blocks() * (32 / Step) * 16) {
    unpack(w, tile, scratch);
    // From 0..255 with zero = 128 to signed bytes: no sum of activations need be taken away.
    for (int64_t b = 0; b < w.blocks(); b += 2) cells_to_rows(scratch + b * 512, scratch + b * 512, static_cast<int32_t>(0x80808080u));
  }
  // Where the columns of two steps begin.
  [[nodiscard, gnu::always_inline]] const uint8_t* pair(int64_t index) const {
    return Step == 32 ? values + index * kTileBytes : values + index / 2 * kTileBytes + index % 2 * 32;
  }
};

// sums: [2 steps][16 outputs][16 tokens]. Tiles 0 to 3 are for sums, two for each parity of the pair; 4 and 5 for weights; 6 and 7 for
// activations. So the products of a pair need not wait for what becomes of the one before.
template <int Step, int Parity, typename Machine>
DEEPSEEK_INLINE void multiply_pair(Machine& machine, const uint8_t* weights, const uint8_t* activations, int64_t width, int32_t* sums) {
  constexpr int kFirst = 2 * Parity, kSecond = kFirst + 1;
  machine.template zero<kFirst>();
  machine.template load<4>(weights, 64);
  machine.template load<6>(activations, 4 * width);
  machine.template multiply_bytes<kFirst, 4, 6>();
  machine.template zero<kSecond>();
  machine.template load<5>(weights + Step, 64);
  machine.template load<7>(activations + Step * width, 4 * width);
  machine.template multiply_bytes<kSecond, 5, 7>();
  machine.template store<kFirst>(sums, 64);
  machine.template store<kSecond>(sums + 256, 64);
}

// total[output] += scale * unit * sum, then min * sum of activations: rounded as in quant_matmul_avx512.cc, so that both give the same bits.
template <int Step, bool Mins>
DEEPSEEK_INLINE void add_pair(const TileOfIntegers<Step>& w, const PackedRows& x, int64_t group, int64_t pair, const int32_t* sums, Floats (&total)[16]) {
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const int64_t step = 2 * pair + i, block = step * Step / 32;
    const auto units = load<Floats>(x.units(group) + block * x.width());
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) {
      const Floats product = to_floats(load<Ints>(sums + (i * 16 + r) * 16));
      total[r] = fused(product, splat(w.scales[step * 16 + r]) * units, total[r]);
    }
    if constexpr (Mins) {
      const auto all = load<Floats>(x.sums(group) + block * x.width());
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r) total[r] = fused(splat(w.mins[block * 16 + r]), all, total[r]);
    }
  }
}

template <int Step, bool Mins, typename Machine>
void multiply_group(Machine& machine, const TileOfIntegers<Step>& w, int64_t blocks, const PackedRows& x, int64_t group, float* out, int64_t stride,
                    int64_t rows, int32_t (&sums)[2][512]) {
  const int64_t width = x.width(), pairs = blocks * 32 / Step / 2;
  const uint8_t* a = x.values(group);
  Floats total[16];
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) total[r] = splat(0.0f);
  multiply_pair<Step, 0>(machine, w.pair(0), a, width, sums[0]);
  for (int64_t p = 0; p < pairs; ++p) {
    const int64_t next = p + 1;
    if (next < pairs && next % 2 == 0) multiply_pair<Step, 0>(machine, w.pair(next), a + next * 2 * Step * width, width, sums[0]);
    if (next < pairs && next % 2 == 1) multiply_pair<Step, 1>(machine, w.pair(next), a + next * 2 * Step * width, width, sums[1]);
    add_pair<Step, Mins>(w, x, group, p, sums[p % 2], total);
  }
  Ints v[16];
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) v[r] = (Ints)total[r];
  write_outputs(v, tokens_of(x, group), rows, out, stride);
}

template <int Step, bool Mins, typename Machine>
void multiply_integers(Machine& machine, Unpack unpack, const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride,
                       uint8_t* scratch) {
  TileShapes shapes;
  for (int t = 0; t < 4; ++t) shapes.set(t, 16, 4 * x.width());
  for (int t = 4; t < 6; ++t) shapes.set(t, 16, Step);
  for (int t = 6; t < 8; ++t) shapes.set(t, Step / 4, 4 * x.width());
  machine.configure(shapes);
  alignas(64) int32_t sums[2][512] = {};  // by parity; lanes from x.width() on stay zero
  for (int64_t tile = begin; tile < end; ++tile) {
    const TileOfIntegers<Step> weights(unpack, w, tile, scratch);
    for (int64_t g = 0; g < x.groups(); ++g) {
      multiply_group<Step, Mins>(machine, weights, w.blocks(), x, g, out + g * x.width() * stride + tile * kTileRows, stride,
                                 w.rows() - tile * kTileRows, sums);
    }
  }
  machine.release();
}

template <int Sum, typename Machine>
DEEPSEEK_INLINE void write_tile(Machine& machine, int64_t tokens, int64_t rows, float* out, int64_t stride) {
  alignas(64) float sums[16][16] = {};
  machine.template store<Sum>(sums, 64);
  Ints v[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) v[i] = load<Ints>(sums[i]);
  write_outputs(v, tokens, rows, out, stride);
}

// One or two tiles of weights, each [columns / 32][16 rows][64 bytes], by one or two groups of tokens: what is loaded serves twice.
template <int Tiles, int Groups, typename Machine>
void multiply_bf16_tiles(Machine& machine, const PackedMatrix& w, int64_t tile, const uint8_t* weights, const PackedRows& x, int64_t group, float* out,
                         int64_t stride) {
  const int64_t width = x.width(), row = 4 * width, blocks = w.blocks(), rows = w.rows() - tile * kTileRows;
  const uint8_t *second_tile = weights + blocks * kTileBytes, *a = x.values(group), *b = x.values(Groups > 1 ? group + 1 : group);
  machine.template zero<0>();
  if constexpr (Groups > 1) machine.template zero<1>();
  if constexpr (Tiles > 1) machine.template zero<2>();
  if constexpr (Tiles > 1 && Groups > 1) machine.template zero<3>();
  for (int64_t i = 0; i < blocks; ++i) {
    machine.template load<4>(weights + i * kTileBytes, 64);
    machine.template load<6>(a + i * 16 * row, row);
    machine.template multiply_bf16<0, 4, 6>();
    if constexpr (Groups > 1) {
      machine.template load<7>(b + i * 16 * row, row);
      machine.template multiply_bf16<1, 4, 7>();
    }
    if constexpr (Tiles > 1) {
      machine.template load<5>(second_tile + i * kTileBytes, 64);
      machine.template multiply_bf16<2, 5, 6>();
    }
    if constexpr (Tiles > 1 && Groups > 1) machine.template multiply_bf16<3, 5, 7>();
  }
  float* to = out + group * width * stride + tile * kTileRows;
  const int64_t tokens = tokens_of(x, group);
  write_tile<0>(machine, tokens, rows, to, stride);
  if constexpr (Groups > 1) write_tile<1>(machine, tokens_of(x, group + 1), rows, to + width * stride, stride);
  if constexpr (Tiles > 1) write_tile<2>(machine, tokens, rows - kTileRows, to + kTileRows, stride);
  if constexpr (Tiles > 1 && Groups > 1) write_tile<3>(machine, tokens_of(x, group + 1), rows - kTileRows, to + width * stride + kTileRows, stride);
}

template <int Tiles, typename Machine>
void multiply_bf16_rows(Machine& machine, const PackedMatrix& w, const PackedRows& x, int64_t tile, float* out, int64_t stride, uint8_t* scratch) {
  const int64_t blocks = w.blocks();
  for (int t = 0; t < Tiles; ++t) {
    for (int64_t i = 0; i < blocks; ++i) cells_to_rows(w.values(tile + t, i), scratch + (t * blocks + i) * kTileBytes, 0);
  }
  int64_t g = 0;
  for (; g + 2 <= x.groups(); g += 2) multiply_bf16_tiles<Tiles, 2>(machine, w, tile, scratch, x, g, out, stride);
  if (g < x.groups()) multiply_bf16_tiles<Tiles, 1>(machine, w, tile, scratch, x, g, out, stride);
}

template <typename Machine>
void multiply_bf16(Machine& machine, const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch) {
  TileShapes shapes;
  for (int t = 0; t < 4; ++t) shapes.set(t, 16, 4 * x.width());
  for (int t = 4; t < 6; ++t) shapes.set(t, 16, 64);
  for (int t = 6; t < 8; ++t) shapes.set(t, 16, 4 * x.width());
  machine.configure(shapes);
  int64_t tile = begin;
  for (; tile + 2 <= end; tile += 2) multiply_bf16_rows<2>(machine, w, x, tile, out, stride, scratch);
  if (tile < end) multiply_bf16_rows<1>(machine, w, x, tile, out, stride, scratch);
  machine.release();
}

/// Integers and bf16, for any number of tokens.
template <typename Machine>
void multiply_on(Machine& machine, Unpack unpack, const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride,
                 uint8_t* scratch) {
  const PackedFormat& f = w.format();
  if (f.bits == 16) return multiply_bf16(machine, w, x, begin, end, out, stride, scratch);
  if (f.block == 16) return multiply_integers<16, false>(machine, unpack, w, x, begin, end, out, stride, scratch);
  if (f.mins) return multiply_integers<32, true>(machine, unpack, w, x, begin, end, out, stride, scratch);
  return multiply_integers<32, false>(machine, unpack, w, x, begin, end, out, stride, scratch);
}

}  // namespace
}  // namespace deepseek::kernels
