// Sums over listed keys: weights times the rows that a list names, the rest is not read.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/sparse_attention/row_weights.h"

namespace deepseek::kernels {

/// Rows of keys in f32, 64 columns at a time.
class ListedRows {
 public:
  /// x: [..., keys, dim] f32|bf16, contiguous; the leading dimensions together are heads. width: dim or more, a multiple of 16; zeros behind dim.
  ListedRows(const at::Tensor& x, int64_t width);

 private:
  friend class KeyLists;
  int64_t keys_, width_;
  at::Tensor rows_;  // [heads][blocks of 64 columns][keys][columns]
};

/// Of each row of a tile the kept keys; their weights lie packed in the row of its scores.
class KeyLists {
 public:
  KeyLists(int64_t rows, int64_t keys);
  /// The kept of x [n], the scores of a row, become a list: x[i] = exp((score - shift) * scale) of the i-th. x has room for a multiple of 16.
  /// Returns the sum of the weights.
  float pack(int64_t row, float* x, int64_t n, const KeptScores& kept, float shift, float scale);
  void clear(int64_t row);  ///< an empty list

  /// out[r][j] = sum over the i-th listed of row r of weights[r * stride + i] * x[key][j], for r < rows and j < width of x. Each row's sums have an order of
  /// their own. `visible`: keys that the longest row sees.
  void multiply(const float* weights, int64_t stride, int64_t rows, int64_t visible, const ListedRows& x, int64_t head, float* out) const;

 private:
  int64_t row_size_, blocks_;
  std::vector<uint8_t> keys_;
  std::vector<int32_t> ends_;
};

}  // namespace deepseek::kernels
