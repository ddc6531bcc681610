#include "explain/positive_matrix.h"

#include <algorithm>
#include <cmath>

#include "explain/vectors.h"

namespace deepseek::explain {
namespace {

constexpr size_t kTile = 4;     // rows of a tile: with eight columns its sums stay in registers
constexpr size_t kPanel = 128;  // rows that are factored before they are taken from what follows: they stay in the cache

// c[r][0..8) -= sum over p in [from, to) of a[p][r] b[p][0..8) for r < kTile, or += with `add`.
template <bool add>
EXPLAIN_INLINE void tile(double* c, size_t c_stride, const double* a, size_t a_stride, const double* b, size_t b_stride, size_t from, size_t to) {
  Doubles s0 = at(c), s1 = at(c + c_stride), s2 = at(c + 2 * c_stride), s3 = at(c + 3 * c_stride);
  for (size_t p = from; p < to; ++p) {
    const Doubles x = add ? at(b + p * b_stride) : -at(b + p * b_stride);
    const double* w = a + p * a_stride;
    s0 += w[0] * x;
    s1 += w[1] * x;
    s2 += w[2] * x;
    s3 += w[3] * x;
  }
  at(c) = s0, at(c + c_stride) = s1, at(c + 2 * c_stride) = s2, at(c + 3 * c_stride) = s3;
}

EXPLAIN_INLINE void subtract(double* row, double factor, const double* other, size_t from, size_t stride) {
  for (size_t j = from & ~size_t{7}; j < stride; j += 8) at(row + j) -= factor * at(other + j);
}

EXPLAIN_INLINE void scale(double* row, double factor, size_t from, size_t stride) {
  for (size_t j = from & ~size_t{7}; j < stride; j += 8) at(row + j) *= factor;
}

// Four rows of U whose earlier rows have been taken from them; false where a pivot is not positive.
EXPLAIN_INLINE bool factor_rows(Matrix& a, size_t i) {
  const size_t end = std::min(i + kTile, a.rows);
  for (size_t r = i; r < end; ++r) {
    for (size_t q = i; q < r; ++q) subtract(a.row(r), a.row(q)[r], a.row(q), r, a.stride);
    const double pivot = a.row(r)[r];
    if (!(pivot > 0) || !std::isfinite(pivot)) return false;
    scale(a.row(r), 1 / std::sqrt(pivot), r, a.stride);
  }
  return true;
}

// The same rows of U^-T columns, `count` columns of them.
EXPLAIN_INLINE void solve_rows(const Matrix& u, Matrix& x, size_t i, size_t count) {
  const size_t end = std::min(i + kTile, u.rows);
  for (size_t r = i; r < end; ++r) {
    for (size_t q = i; q < r; ++q) subtract(x.row(r), u.row(q)[r], x.row(q), 0, count);
    scale(x.row(r), 1 / u.row(r)[r], 0, count);
  }
}

EXPLAIN_CLONES bool factor_all(Matrix& a) {
  for (size_t panel = 0; panel < a.rows; panel += kPanel) {
    const size_t end = std::min(panel + kPanel, a.rows);
    for (size_t i = panel; i < end; i += kTile) {
      for (size_t j = i & ~size_t{7}; j < a.stride; j += 8) tile<false>(a.row(i) + j, a.stride, a.row(0) + i, a.stride, a.row(0) + j, a.stride, panel, i);
      if (!factor_rows(a, i)) return false;
    }
    for (size_t j = end & ~size_t{7}; j < a.stride; j += 8) {
      for (size_t i = end; i < std::min(a.rows, j + 8); i += kTile) tile<false>(a.row(i) + j, a.stride, a.row(0) + i, a.stride, a.row(0) + j, a.stride, panel, end);
    }
  }
  return true;
}

EXPLAIN_CLONES void solve_columns(const Matrix& u, Matrix& x) {
  for (size_t i = 0; i < u.rows; i += kTile) {
    for (size_t j = 0; j < x.stride; j += 8) tile<false>(x.row(i) + j, x.stride, u.row(0) + i, u.stride, x.row(0) + j, x.stride, 0, i);
    solve_rows(u, x, i, x.stride);
  }
}

// As solve_columns() of the unit matrix, whose solution has nothing above the diagonal.
EXPLAIN_CLONES void solve_unit(const Matrix& u, Matrix& m) {
  for (size_t i = 0; i < u.rows; i += kTile) {
    const size_t count = std::min(m.stride, (i + kTile + 7) & ~size_t{7});
    for (size_t j = 0; j < i; j += 8) tile<false>(m.row(i) + j, m.stride, u.row(0) + i, u.stride, m.row(0) + j, m.stride, j, i);
    for (size_t r = i; r < std::min(i + kTile, u.rows); ++r) m.row(r)[r] = 1;
    solve_rows(u, m, i, count);
  }
}

EXPLAIN_CLONES void square(const Matrix& m, Matrix& result) {
  for (size_t j = 0; j < m.stride; j += 8) {
    for (size_t i = 0; i < std::min(m.rows, j + 8); i += kTile) tile<true>(result.row(i) + j, result.stride, m.row(0) + i, m.stride, m.row(0) + j, m.stride, j, m.rows);
  }
}

EXPLAIN_CLONES void column_squares(const Matrix& m, double* sums) {
  for (size_t p = 0; p < m.rows; ++p) {
    for (size_t j = 0; j <= (p | 7) && j < m.stride; j += 8) at(sums + j) += at(m.row(p) + j) * at(m.row(p) + j);
  }
}

EXPLAIN_CLONES void solve_one(const Matrix& u, double* x) {
  for (size_t i = 0; i < u.rows; ++i) {
    const double* row = u.row(i);
    const double value = x[i] /= row[i];
    for (size_t j = i + 1; j < u.rows; ++j) x[j] -= row[j] * value;
  }
  for (size_t i = u.rows; i-- > 0;) {
    const double* row = u.row(i);
    Doubles sum = splat(0);
    size_t j = i + 1;
    double rest = 0;
    for (; j < u.rows && (j & 7) != 0; ++j) rest += row[j] * x[j];
    for (; j + 8 <= u.rows; j += 8) sum += at(row + j) * at(x + j);
    for (; j < u.rows; ++j) rest += row[j] * x[j];
    for (int lane = 0; lane < kLanes; ++lane) rest += sum[lane];
    x[i] = (x[i] - rest) / row[i];
  }
}

}  // namespace

// Four more rows, so that a tile never leaves the memory; nine eighths of a line more where rows would fall onto the same lines of the cache.
Matrix::Matrix(size_t rows, size_t columns) : rows(rows), columns(columns), stride((columns + 7) & ~size_t{7}) {
  if (stride % 64 == 0) stride += 8;
  data.assign((rows + kTile) * stride, 0);
}

bool factor(Matrix& a) { return factor_all(a); }
void solve(const Matrix& u, std::span<double> x) { solve_one(u, x.data()); }
void solve_lower(const Matrix& u, Matrix& columns) { solve_columns(u, columns); }

Matrix inverse_of_factor(const Matrix& u) {
  Matrix m(u.rows, u.rows);
  solve_unit(u, m);
  return m;
}

Matrix inverse(const Matrix& m) {
  Matrix result(m.rows, m.rows);
  square(m, result);
  return result;
}

std::vector<double> inverse_diagonal(const Matrix& m) {
  std::vector<double> sums(m.stride);
  column_squares(m, sums.data());
  sums.resize(m.rows);
  return sums;
}

}  // namespace deepseek::explain
