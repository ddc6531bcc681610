#include "kernels/sparse_attention/key_lists.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "kernels/elementwise/tensor_rows.h"
#include "kernels/lanes.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kColumns = 64;

struct Part {
  const float* weights;
  const uint8_t* keys;
  int64_t from, to;  // of the list
};

// Even and odd places of the part have sums apart: one chain of additions would wait for itself.
template <int kVectors>
DEEPSEEK_INLINE void add_listed(const Part& part, const float* rows, float* out) {
  Floats even[kVectors], odd[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) even[v] = load<Floats>(out + 16 * v), odd[v] = Floats{};
  const float* weights = part.weights + part.from;
  const uint8_t *key = part.keys + part.from, *end = part.keys + part.to;
  for (; key + 1 < end; key += 2, weights += 2) {
    const float *row = rows + key[0] * (16 * kVectors), *other = rows + key[1] * (16 * kVectors);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) even[v] += weights[0] * load<Floats>(row + 16 * v);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) odd[v] += weights[1] * load<Floats>(other + 16 * v);
  }
  if (key < end) {
    const float* row = rows + key[0] * (16 * kVectors);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) even[v] += weights[0] * load<Floats>(row + 16 * v);
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) store(out + 16 * v, even[v] + odd[v]);
}

DEEPSEEK_VECTOR_CLONES void add_listed_columns(const Part& part, const float* rows, int64_t columns, float* out) {
  if (columns == kColumns) return add_listed<4>(part, rows, out);
  if (columns == kColumns / 2) return add_listed<2>(part, rows, out);
  for (int64_t i = part.from; i < part.to; ++i) {
    for (int64_t j = 0; j < columns; ++j) out[j] += part.weights[i] * rows[part.keys[i] * columns + j];
  }
}

}  // namespace

ListedRows::ListedRows(const at::Tensor& x, int64_t width) : keys_(x.size(-2)), width_(width), rows_(aligned_numbers(x.numel() / x.size(-1) * width, at::kFloat)) {
  constexpr int64_t kAtOnce = 256;
  const int64_t heads = x.numel() / (keys_ * x.size(-1)), parts = (keys_ + kAtOnce - 1) / kAtOnce;
  at::parallel_for(0, heads * parts, 1, [&](int64_t from, int64_t to) {
    std::vector<float> plain(static_cast<size_t>(kAtOnce * width));
    for (int64_t p = from; p < to; ++p) {
      const int64_t head = p / parts, first = p % parts * kAtOnce, n = std::min(kAtOnce, keys_ - first);
      load_rows(x, head * keys_ + first, n, width, plain.data());
      for (int64_t column = 0; column < width; column += kColumns) {
        const int64_t columns = std::min(kColumns, width - column);
        float* out = data_of<float>(rows_) + (head * width + column) * keys_ + first * columns;
        for (int64_t r = 0; r < n; ++r) std::copy_n(plain.data() + r * width + column, columns, out + r * columns);
      }
    }
  });
}

KeyLists::KeyLists(int64_t rows, int64_t keys)
    : row_size_(keys + 16), blocks_((keys + kListBlock - 1) / kListBlock), keys_(static_cast<size_t>(rows * row_size_)), ends_(static_cast<size_t>(rows * blocks_)) {}

float KeyLists::pack(int64_t row, float* x, int64_t n, const KeptScores& kept, float shift, float scale) {
  int32_t* ends = ends_.data() + row * blocks_;
  const PackedRow packed = packed_exponentials(x, n, kept, shift, scale, keys_.data() + row * row_size_, ends);
  std::fill(ends + (n + kListBlock - 1) / kListBlock, ends + blocks_, static_cast<int32_t>(packed.count));
  return packed.sum;
}

void KeyLists::clear(int64_t row) { std::fill_n(ends_.data() + row * blocks_, blocks_, 0); }

void KeyLists::multiply(const float* weights, int64_t stride, int64_t rows, int64_t visible, const ListedRows& x, int64_t head, float* out) const {
  std::fill(out, out + rows * x.width_, 0.0f);
  for (int64_t column = 0; column < x.width_; column += kColumns) {
    const int64_t columns = std::min(kColumns, x.width_ - column);
    const float* from = data_of<float>(x.rows_) + (head * x.width_ + column) * x.keys_;
    for (int64_t b = 0; b * kListBlock < visible; ++b, from += kListBlock * columns) {
      for (int64_t r = 0; r < rows; ++r) {
        const int32_t* ends = ends_.data() + r * blocks_;
        add_listed_columns({weights + r * stride, keys_.data() + r * row_size_, b == 0 ? 0 : ends[b - 1], ends[b]}, from, columns, out + r * x.width_ + column);
      }
    }
  }
}

}  // namespace deepseek::kernels
