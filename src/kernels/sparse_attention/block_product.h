// Products of small f32 matrices on one thread, each element in one order of sums whatever the sizes around it.
#pragma once

#include <cstdint>

namespace deepseek::kernels {

constexpr int64_t kProductLanes = 16;  // columns are read and written in multiples of this

/// c[r][j] (+)= sum over k of a[r * a_row + k * a_depth] * b[k * b_row + j], k ascending in one chain of sums: neither `rows` nor `columns`
/// nor a cut of `depth` into calls with `add` changes its bits.
struct BlockProduct {
  const float* a = nullptr;
  int64_t a_row = 0, a_depth = 1;  ///< a_row = 1 reads a transposed matrix
  const float* b = nullptr;
  int64_t b_row = 0;
  float* c = nullptr;
  int64_t c_row = 0;
  int64_t rows = 0, depth = 0;
  int64_t columns = 0;  ///< a multiple of kProductLanes
  bool add = false;     ///< onto what c holds
};
void multiply(const BlockProduct& product);

/// to[c * to_row + r] = from[r * from_row + c]; rows and columns are multiples of kProductLanes.
void transpose(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row);

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

}  // namespace deepseek::kernels
