// Rounds a matrix so that its products with the inputs it will meet change least.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "formats/weights/tensor_file.h"

namespace deepseek::precision {

/// What rounding needs of a matrix's inputs; matrices that read the same inputs share it.
struct InputFactor {
  at::Tensor upper;       ///< [columns, columns] f32: the Cholesky factor of the inverse moments, rows divided by their diagonal
  at::Tensor importance;  ///< [columns] f32: what an error costs that no later column can take back
  /// moments: [columns, columns] f32, the sum of x x^T over inputs x. damping: share of the mean of the diagonal that is added to it.
  /// Errors: moments that are not finite.
  [[nodiscard]] static base::Result<InputFactor> create(const at::Tensor& moments, double damping = 0.01);
};

/// One matrix [rows, columns], a few rows at a time. Each column is rounded in turn, and what that changes in the products is taken back
/// by the columns that are still to come. Source: Frantar et al., "GPTQ", 2023, with the grid of each block chosen when it is reached
/// (formats/weights/quantize.h), errors weighed by InputFactor::importance.
class MatrixRounder {
 public:
  /// `type`: F32, BF16, or one with quant fields whose block divides columns. An empty factor: every block rounds to its nearest levels.
  MatrixRounder(formats::DType type, int64_t columns, InputFactor factor = {});

  /// values: [rows][columns], which become the rounded ones; out: the rows' bytes. Threads of at::parallel_for; the result does not
  /// depend on their number, nor on how the rows are cut into calls of multiples of 32.
  void round(std::span<float> values, std::span<std::byte> out) const;

  [[nodiscard]] uint64_t row_bytes() const;

 private:
  void round_rows(float* values, int64_t rows, std::byte* out) const;
  formats::DType type_;
  int64_t columns_;
  InputFactor factor_;
};

/// trace(w m w^T): the energy of products with inputs of these moments; undefined moments: the sum of squares.
[[nodiscard]] double product_energy(const at::Tensor& weights, const at::Tensor& moments);

}  // namespace deepseek::precision
