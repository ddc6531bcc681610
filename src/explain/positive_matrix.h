// Symmetric positive matrices in f64: factor, solve, invert. Of the sizes that Gaussian processes of coalitions have (tens to a few thousand) and one after the other,
// where libraries that are made for large ones spend their time elsewhere.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace deepseek::explain {

/// Rows of `stride` doubles, a multiple of eight; what lies beyond `columns` is 0 and stays 0.
struct Matrix {
  size_t rows = 0, columns = 0, stride = 0;
  std::vector<double> data;

  Matrix() = default;
  Matrix(size_t rows, size_t columns);
  [[nodiscard]] double* row(size_t i) { return data.data() + i * stride; }
  [[nodiscard]] const double* row(size_t i) const { return data.data() + i * stride; }
};

/// a, of which the upper triangle counts, becomes U with a = U^T U; its lower triangle is of no meaning then. False where a is not positive in f64.
[[nodiscard]] bool factor(Matrix& a);
/// x = a^-1 y of a factored a; x: [rows].
void solve(const Matrix& u, std::span<double> x);
/// columns = U^-T columns: as many right sides as it has columns, [rows of u, any].
void solve_lower(const Matrix& u, Matrix& columns);
/// U^-T: lower triangle, 0 above.
[[nodiscard]] Matrix inverse_of_factor(const Matrix& u);
/// a^-1 = m^T m for m = inverse_of_factor(): the upper triangle, and all of each block of 4 x 8 that it cuts.
[[nodiscard]] Matrix inverse(const Matrix& m);
/// Diagonal of a^-1.
[[nodiscard]] std::vector<double> inverse_diagonal(const Matrix& m);

}  // namespace deepseek::explain
