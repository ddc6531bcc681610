#include "kernels/sparse_attention/block_product.h"

#include <algorithm>

#include "kernels/lanes.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kDepth = 128;  // 128 rows of b of 64 floats are 32 KiB: they stay in the first cache while all rows of a pass

template <int kRows, int kVectors>
DEEPSEEK_INLINE void block(const BlockProduct& p, int64_t row, int64_t column, int64_t from, int64_t to) {
  Floats sum[kRows][kVectors];
  float* c = p.c + row * p.c_row + column;
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = p.add || from > 0 ? load<Floats>(c + r * p.c_row + v * kProductLanes) : Floats{};
  }
  const float* a = p.a + row * p.a_row;
  for (int64_t k = from; k < to; ++k) {
    const float* b = p.b + k * p.b_row + column;
    Floats values[kVectors];
    for (int v = 0; v < kVectors; ++v) values[v] = load<Floats>(b + v * kProductLanes);
    for (int r = 0; r < kRows; ++r) {
      const float x = a[r * p.a_row + k * p.a_depth];
      for (int v = 0; v < kVectors; ++v) sum[r][v] += x * values[v];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) store(c + r * p.c_row + v * kProductLanes, sum[r][v]);
  }
}

template <int kRows, int kVectors>
DEEPSEEK_INLINE void all_rows(const BlockProduct& p, int64_t column, int64_t from, int64_t to) {
  int64_t row = 0;
  for (; row + kRows <= p.rows; row += kRows) block<kRows, kVectors>(p, row, column, from, to);
  for (; row < p.rows; ++row) block<1, kVectors>(p, row, column, from, to);
}

template <int kRows, int kVectors>
DEEPSEEK_INLINE void product(const BlockProduct& p) {
  for (int64_t from = 0; from < p.depth; from += kDepth) {
    const int64_t to = std::min(p.depth, from + kDepth);
    int64_t column = 0;
    for (; column + kVectors * kProductLanes <= p.columns; column += kVectors * kProductLanes) all_rows<kRows, kVectors>(p, column, from, to);
    for (; column < p.columns; column += kProductLanes) all_rows<kRows, 1>(p, column, from, to);
  }
}

DEEPSEEK_INLINE void turned(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row) {
  for (int64_t r = 0; r < rows; r += kProductLanes) {
    for (int64_t c = 0; c < columns; c += kProductLanes) {
      Ints block[kProductLanes];
      for (int i = 0; i < kProductLanes; ++i) block[i] = load<Ints>(from + (r + i) * from_row + c);
      transpose(block);
      for (int i = 0; i < kProductLanes; ++i) store(to + (c + i) * to_row + r, block[i]);
    }
  }
}

#if defined(__x86_64__)
[[gnu::target("arch=x86-64-v4")]] void product_v4(const BlockProduct& p) { product<6, 4>(p); }  // 24 sums and 4 values of 32 registers
[[gnu::target("arch=x86-64-v3")]] void product_v3(const BlockProduct& p) { product<6, 1>(p); }  // a vector is two registers: 12 sums and 2 of 16
#endif
void product_any(const BlockProduct& p) { product<2, 1>(p); }
#if defined(__x86_64__)
[[gnu::target("arch=x86-64-v4")]] void turned_v4(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row) {
  turned(from, from_row, rows, columns, to, to_row);
}
#endif
void turned_any(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row) { turned(from, from_row, rows, columns, to, to_row); }

struct Implementation {
  void (*product)(const BlockProduct&);
  void (*turned)(const float*, int64_t, int64_t, int64_t, float*, int64_t);
};
Implementation best() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("x86-64-v4")) return {product_v4, turned_v4};
  if (__builtin_cpu_supports("x86-64-v3")) return {product_v3, turned_any};
#endif
  return {product_any, turned_any};
}
const Implementation& implementation() {
  static const Implementation chosen = best();
  return chosen;
}

}  // namespace

void multiply(const BlockProduct& p) { implementation().product(p); }

void transpose(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row) {
  implementation().turned(from, from_row, rows, columns, to, to_row);
}

}  // namespace deepseek::kernels
