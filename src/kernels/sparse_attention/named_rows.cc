#include "kernels/sparse_attention/named_rows.h"

#include <algorithm>
#include <cstring>

#include "kernels/elementwise/tensor_rows.h"
#include "kernels/lanes.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kChunk = 32;  // keys whose rows stay in the first cache while all columns and heads read them

DEEPSEEK_INLINE Floats floats_at(const float* x) { return load<Floats>(x); }
DEEPSEEK_INLINE Floats floats_at(const uint16_t* x) { return (Floats)(__builtin_convertvector(load<Halves>(x), Words) << 16); }
template <typename T>
DEEPSEEK_INLINE Floats floats_at(const T* x, int64_t n) {
  if (n >= kLanes) return floats_at(x);
  T some[kLanes] = {};
  __builtin_memcpy(some, x, static_cast<size_t>(n) * sizeof(T));
  return floats_at(some);
}

template <typename T>
DEEPSEEK_INLINE const T* row_at(const NamedRows& rows, int64_t i) {
  return static_cast<const T*>(rows.data) + rows.keys[i] * rows.stride;
}

// kHeads * kKeys sums in registers, then folded all at once.
template <typename T, int kHeads, int kKeys>
DEEPSEEK_INLINE void products_block(const NamedRows& rows, const float* a, int64_t a_row, int64_t first, float* out, int64_t out_row) {
  constexpr int kSums = kHeads * kKeys;
  Floats sums[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) sums[i] = Floats{};
  const T* row[kKeys];
#pragma GCC unroll 16
  for (int k = 0; k < kKeys; ++k) row[k] = row_at<T>(rows, first + k < rows.count ? first + k : rows.count - 1);
  const auto add = [&](int64_t at, int64_t n) __attribute__((always_inline)) {
    Floats x[kHeads];
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) x[h] = load<Floats>(a + h * a_row + at);
#pragma GCC unroll 16
    for (int k = 0; k < kKeys; ++k) {
      const Floats y = n == kLanes ? floats_at(row[k] + at) : floats_at(row[k] + at, n);
#pragma GCC unroll 4
      for (int h = 0; h < kHeads; ++h) sums[h * kKeys + k] += x[h] * y;
    }
  };
  int64_t at = 0;
  for (; at + kLanes <= rows.size; at += kLanes) add(at, kLanes);
  if (at < rows.size) add(at, rows.size - at);
  float folded[kSums];
  if constexpr (kSums == 16) {
    store(folded, sum_of_each(sums));
  } else {
#pragma GCC unroll 4
    for (int i = 0; i < kSums; ++i) folded[i] = sum(sums[i]);
  }
  const int64_t keys = rows.count - first < kKeys ? rows.count - first : kKeys;
  for (int h = 0; h < kHeads; ++h) {
    for (int64_t k = 0; k < keys; ++k) out[h * out_row + first + k] = folded[h * kKeys + k];
  }
}

template <typename T, int kSums>
DEEPSEEK_INLINE void all_products(const NamedRows& rows, const HeadRows& a, float* out, int64_t out_row) {
  const auto some = [&]<int kHeads>(int64_t h, int64_t from, int64_t end) __attribute__((always_inline)) {
    for (int64_t first = from; first < end; first += kSums / kHeads) {
      products_block<T, kHeads, kSums / kHeads>(rows, a.data + h * a.row, a.row, first, out + h * out_row, out_row);
    }
  };
  for (int64_t first = 0; first < rows.count; first += kChunk) {
    const int64_t end = std::min(rows.count, first + kChunk);
    int64_t h = 0;
    for (; h + 4 <= a.heads; h += 4) some.template operator()<4>(h, first, end);
    if (h + 2 <= a.heads) some.template operator()<2>(h, first, end), h += 2;
    if (h < a.heads) some.template operator()<1>(h, first, end);
  }
}

template <typename T, int kHeads, int kVectors>
DEEPSEEK_INLINE void sums_block(const NamedRows& rows, const float* weights, int64_t weights_row, int64_t first, int64_t end, int64_t column, float* out, int64_t out_row) {
  Floats sums[kHeads][kVectors];
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[h][v] = first > 0 ? load<Floats>(out + h * out_row + column + v * kLanes) : Floats{};
  }
  const bool whole = column + kVectors * kLanes <= rows.size;
  for (int64_t i = first; i < end; ++i) {
    const T* row = row_at<T>(rows, i) + column;
    Floats x[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) x[v] = whole ? floats_at(row + v * kLanes) : floats_at(row + v * kLanes, rows.size - column - v * kLanes);
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      const float weight = weights[h * weights_row + i];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[h][v] += weight * x[v];
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(out + h * out_row + column + v * kLanes, sums[h][v]);
  }
}

template <typename T, int kVectors>
DEEPSEEK_INLINE void all_sums(const NamedRows& rows, const HeadRows& weights, float* out, int64_t out_row) {
  const auto columns = [&]<int kWidth>(int64_t column, int64_t first, int64_t end) __attribute__((always_inline)) {
    const float* w = weights.data;
    int64_t h = 0;
    for (; h + 4 <= weights.heads; h += 4) sums_block<T, 4, kWidth>(rows, w + h * weights.row, weights.row, first, end, column, out + h * out_row, out_row);
    if (h + 2 <= weights.heads) sums_block<T, 2, kWidth>(rows, w + h * weights.row, weights.row, first, end, column, out + h * out_row, out_row), h += 2;
    if (h < weights.heads) sums_block<T, 1, kWidth>(rows, w + h * weights.row, weights.row, first, end, column, out + h * out_row, out_row);
  };
  for (int64_t first = 0; first < rows.count; first += kChunk) {
    const int64_t end = std::min(rows.count, first + kChunk);
    int64_t column = 0;
    for (; column + kVectors * kLanes <= rows.size; column += kVectors * kLanes) columns.template operator()<kVectors>(column, first, end);
    for (; column < rows.size; column += kLanes) columns.template operator()<1>(column, first, end);
  }
}

template <int kHeads, int kVectors>
DEEPSEEK_INLINE void add_block(const int32_t* keys, int64_t count, const float* weights, int64_t weights_row, const float* a, int64_t a_row, int64_t width, float* sums) {
  Floats x[kHeads][kVectors];
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) x[h][v] = load<Floats>(a + h * a_row + v * kLanes);
  }
  for (int64_t i = 0; i < count; ++i) {
    float* row = sums + keys[i] * width;
    Floats y[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) y[v] = load<Floats>(row + v * kLanes);
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      const float weight = weights[h * weights_row + i];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) y[v] += weight * x[h][v];
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(row + v * kLanes, y[v]);
  }
}

template <int kVectors>
DEEPSEEK_INLINE void add_all(const int32_t* keys, int64_t count, const HeadRows& weights, const HeadRows& a, int64_t width, float* sums) {
  const auto some = [&]<int kHeads>(int64_t h, int64_t first, int64_t n) __attribute__((always_inline)) {
    const float *w = weights.data + h * weights.row + first, *x = a.data + h * a.row;
    int64_t column = 0;
    for (; column + kVectors * kLanes <= a.row; column += kVectors * kLanes) add_block<kHeads, kVectors>(keys + first, n, w, weights.row, x + column, a.row, width, sums + column);
    for (; column < a.row; column += kLanes) add_block<kHeads, 1>(keys + first, n, w, weights.row, x + column, a.row, width, sums + column);
  };
  for (int64_t first = 0; first < count; first += kChunk) {
    const int64_t n = std::min(kChunk, count - first);
    int64_t h = 0;
    for (; h + 4 <= a.heads; h += 4) some.template operator()<4>(h, first, n);
    if (h + 2 <= a.heads) some.template operator()<2>(h, first, n), h += 2;
    if (h < a.heads) some.template operator()<1>(h, first, n);
  }
}

struct Implementation {
  void (*products)(const NamedRows&, const HeadRows&, float*, int64_t);
  void (*sums)(const NamedRows&, const HeadRows&, float*, int64_t);
  void (*add)(const int32_t*, int64_t, const HeadRows&, const HeadRows&, int64_t, float*);
};

// Registers: 16 sums, up to 4 + 4 others of 32; a vector is two of 16 registers below AVX-512.
template <int kSums, int kVectors>
struct Operations {
  DEEPSEEK_INLINE static void products(const NamedRows& rows, const HeadRows& a, float* out, int64_t out_row) {
    if (rows.bf16) all_products<uint16_t, kSums>(rows, a, out, out_row);
    else all_products<float, kSums>(rows, a, out, out_row);
  }
  DEEPSEEK_INLINE static void sums(const NamedRows& rows, const HeadRows& weights, float* out, int64_t out_row) {
    if (rows.bf16) all_sums<uint16_t, kVectors>(rows, weights, out, out_row);
    else all_sums<float, kVectors>(rows, weights, out, out_row);
  }
};
using Wide = Operations<16, 4>;
using Narrow = Operations<4, 1>;

#if defined(__x86_64__)
[[gnu::target("arch=x86-64-v4")]] void products_v4(const NamedRows& rows, const HeadRows& a, float* out, int64_t out_row) { Wide::products(rows, a, out, out_row); }
[[gnu::target("arch=x86-64-v4")]] void sums_v4(const NamedRows& rows, const HeadRows& weights, float* out, int64_t out_row) { Wide::sums(rows, weights, out, out_row); }
[[gnu::target("arch=x86-64-v4")]] void add_v4(const int32_t* keys, int64_t count, const HeadRows& weights, const HeadRows& a, int64_t width, float* sums) {
  add_all<4>(keys, count, weights, a, width, sums);
}
[[gnu::target("arch=x86-64-v3")]] void products_v3(const NamedRows& rows, const HeadRows& a, float* out, int64_t out_row) { Narrow::products(rows, a, out, out_row); }
[[gnu::target("arch=x86-64-v3")]] void sums_v3(const NamedRows& rows, const HeadRows& weights, float* out, int64_t out_row) { Narrow::sums(rows, weights, out, out_row); }
[[gnu::target("arch=x86-64-v3")]] void add_v3(const int32_t* keys, int64_t count, const HeadRows& weights, const HeadRows& a, int64_t width, float* sums) {
  add_all<1>(keys, count, weights, a, width, sums);
}
#endif
void products_any(const NamedRows& rows, const HeadRows& a, float* out, int64_t out_row) { Narrow::products(rows, a, out, out_row); }
void sums_any(const NamedRows& rows, const HeadRows& weights, float* out, int64_t out_row) { Narrow::sums(rows, weights, out, out_row); }
void add_any(const int32_t* keys, int64_t count, const HeadRows& weights, const HeadRows& a, int64_t width, float* sums) {
  add_all<1>(keys, count, weights, a, width, sums);
}

Implementation best() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("x86-64-v4")) return {products_v4, sums_v4, add_v4};
  if (__builtin_cpu_supports("x86-64-v3")) return {products_v3, sums_v3, add_v3};
#endif
  return {products_any, sums_any, add_any};
}
const Implementation& implementation() {
  static const Implementation chosen = best();
  return chosen;
}

}  // namespace

NamedRows::NamedRows(const at::Tensor& x, int64_t head, const int32_t* names, int64_t number)
    : bf16(x.scalar_type() == at::kBFloat16), stride(x.stride(2)), size(x.size(3)), keys(names), count(number) {
  const int64_t at = head / x.size(1) * x.stride(0) + head % x.size(1) * x.stride(1);
  if (bf16) data = data_of<uint16_t>(x) + at;
  else data = data_of<float>(x) + at;
}

void named_products(const NamedRows& rows, const HeadRows& a, float* out, int64_t out_row) {
  if (rows.count > 0) implementation().products(rows, a, out, out_row);
}

void named_sums(const NamedRows& rows, const HeadRows& weights, float* out, int64_t out_row) {
  if (rows.count > 0) return implementation().sums(rows, weights, out, out_row);
  for (int64_t h = 0; h < weights.heads; ++h) std::fill_n(out + h * out_row, (rows.size + kLanes - 1) / kLanes * kLanes, 0.0f);
}

void add_to_named(const int32_t* keys, int64_t count, const HeadRows& weights, const HeadRows& a, int64_t width, float* sums) {
  implementation().add(keys, count, weights, a, width, sums);
}

}  // namespace deepseek::kernels
