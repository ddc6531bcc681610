// Blocks of rows and vectors of 16 columns whose sums stay in registers, over any product of pairs: for the AVX-512, AVX2 and reference files.
#pragma once

#include "kernels/bf16_product/bf16_product.h"
#include "kernels/lanes.h"

namespace deepseek::kernels {
namespace {

// 512 values of depth of 64 columns are 64 KiB, which the second cache delivers while the rows of a pass read them.
constexpr int64_t kDepthPass = 512;

template <typename Pairs, int kRows, int kVectors>
DEEPSEEK_INLINE void pair_block(const Bf16Product& p, int64_t row, int64_t column, int64_t from, int64_t to) {
  Floats sum[kRows][kVectors];
  float* c = p.c + row * p.c_row + column;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = p.add || from > 0 ? load<Floats>(c + r * p.c_row + v * 16) : Floats{};
  }
  const uint16_t* a = p.a + row * p.a_row;
  for (int64_t k = from; k < to; k += 2) {
    const uint16_t* b = p.b + column / 16 * p.b_block + k * 16;
    typename Pairs::Columns values[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) values[v] = Pairs::columns(load<Words>(b + v * p.b_block));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      uint32_t pair;
      __builtin_memcpy(&pair, a + r * p.a_row + k, sizeof(pair));
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Pairs::add(sum[r][v], pair, values[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(c + r * p.c_row + v * 16, sum[r][v]);
  }
}

template <typename Pairs, int kRows, int kVectors>
DEEPSEEK_INLINE void all_rows(const Bf16Product& p, int64_t column, int64_t from, int64_t to) {
  int64_t row = 0;
  for (; row + kRows <= p.rows; row += kRows) pair_block<Pairs, kRows, kVectors>(p, row, column, from, to);
  for (; row < p.rows; ++row) pair_block<Pairs, 1, kVectors>(p, row, column, from, to);
}

template <typename Pairs, int kRows, int kVectors>
DEEPSEEK_INLINE void multiply_pairs(const Bf16Product& p) {
  for (int64_t from = 0; from < p.depth; from += kDepthPass) {
    const int64_t to = from + kDepthPass < p.depth ? from + kDepthPass : p.depth;
    int64_t column = 0;
    for (; column + kVectors * 16 <= p.columns; column += kVectors * 16) all_rows<Pairs, kRows, kVectors>(p, column, from, to);
    for (; column < p.columns; column += 16) all_rows<Pairs, kRows, 1>(p, column, from, to);
  }
}

// Both values of a pair as f32, the first one first.
struct WidenedPairs {
  struct Columns {
    Floats low, high;
  };
  DEEPSEEK_INLINE static Columns columns(Words pairs) { return {(Floats)(pairs << 16), (Floats)(pairs & 0xFFFF0000u)}; }
  DEEPSEEK_INLINE static Floats add(Floats sum, uint32_t pair, const Columns& b) {
    return fused(splat(__builtin_bit_cast(float, pair & 0xFFFF0000u)), b.high, fused(splat(__builtin_bit_cast(float, pair << 16)), b.low, sum));
  }
};

}  // namespace
}  // namespace deepseek::kernels
