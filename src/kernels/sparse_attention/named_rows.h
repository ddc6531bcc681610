// Products with the rows that a list names, read where they lie, on one thread: each element in one order of sums whatever is around it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace deepseek::kernels {

/// Rows of one head, f32 or bf16: row i begins at element i * stride, and has `size` elements.
struct NamedRows {
  const void* data = nullptr;
  bool bf16 = false;
  int64_t stride = 0, size = 0;
  const int32_t* keys = nullptr;  ///< [count] rows, none outside the head
  int64_t count = 0;
  /// Head `head` of x [batch, heads, keys, dim] whose last stride is 1.
  NamedRows(const at::Tensor& x, int64_t head, const int32_t* names, int64_t number);
};

/// f32 rows of heads, `row` apart. Where a function reads `size` columns of them they hold zeros up to a multiple of 16.
struct HeadRows {
  const float* data;
  int64_t row, heads;
};

/// out[h * out_row + i] = a[h] times row keys[i].
void named_products(const NamedRows& rows, const HeadRows& a, float* out, int64_t out_row);
/// out[h * out_row + j] = sum over i of weights[h][i] times element j of row keys[i], i ascending; zeros from `size` up to a multiple of 16.
void named_sums(const NamedRows& rows, const HeadRows& weights, float* out, int64_t out_row);
/// sums[keys[i] * width + j] += sum over h of weights[h][i] a[h][j]; width, a multiple of 16, at least a.row. A key may be named twice.
void add_to_named(const int32_t* keys, int64_t count, const HeadRows& weights, const HeadRows& a, int64_t width, float* sums);

}  // namespace deepseek::kernels
