#include "precision/rounding.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cholesky_inverse.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <cstring>

#include "formats/weights/convert.h"
#include "formats/weights/quantize.h"

namespace deepseek::precision {
namespace {

using formats::DType;

constexpr int64_t kRows = 32;  // rows that walk through the columns together: 32 rows of 2,048 columns fit a core's cache

// Upper factor u of inverse(moments) = u^T u, in f64 on the way.
base::Result<at::Tensor> inverse_factor(const at::Tensor& moments, double damping) {
  at::Tensor wide = moments.to(at::kDouble).clone();
  at::Tensor diagonal = wide.diagonal();
  const double mean = diagonal.mean().item<double>();
  if (!std::isfinite(mean)) return base::fail("the inputs of a matrix are not finite: the model's weights are damaged");
  // Inputs that never occur do not matter.
  for (double added = std::max(damping, 1e-6) * std::max(mean, 1e-12);; added *= 10) {
    at::Tensor damped = wide.clone();
    damped.diagonal().add_(added);
    const auto [lower, failed] = at::linalg_cholesky_ex(damped);
    if (failed.item<int>() != 0) continue;
    const auto [inverse_lower, again] = at::linalg_cholesky_ex(at::cholesky_inverse(lower));
    if (again.item<int>() == 0) return inverse_lower.t().contiguous();
  }
}

void store_plain(DType type, std::span<float> values, std::byte* out) {
  if (type == DType::kF32) {
    std::memcpy(out, values.data(), values.size_bytes());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits = formats::f32_to_bf16(values[i]);
    std::memcpy(out + 2 * i, &bits, 2);
    values[i] = formats::bf16_to_f32(bits);
  }
}

}  // namespace

base::Result<InputFactor> InputFactor::create(const at::Tensor& moments, double damping) {
  at::NoGradGuard no_grad;
  auto upper = inverse_factor(moments, damping);
  if (!upper) return base::pass(upper);
  const at::Tensor diagonal = upper->diagonal().clone();
  return InputFactor{(*upper / diagonal.unsqueeze(1)).to(at::kFloat).contiguous(), diagonal.pow(-2).to(at::kFloat).contiguous()};
}

MatrixRounder::MatrixRounder(DType type, int64_t columns, InputFactor factor) : type_(type), columns_(columns), factor_(std::move(factor)) {
  at::NoGradGuard no_grad;
  if (!factor_.importance.defined()) factor_.importance = at::ones({columns}, at::kFloat);
}

uint64_t MatrixRounder::row_bytes() const {
  const auto block = formats::block_size(type_);
  return static_cast<uint64_t>(columns_ / block.elements * block.bytes);
}

void MatrixRounder::round(std::span<float> values, std::span<std::byte> out) const {
  at::NoGradGuard no_grad;
  const auto rows = static_cast<int64_t>(values.size()) / columns_;
  at::parallel_for(0, (rows + kRows - 1) / kRows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t first = piece * kRows;
      round_rows(values.data() + first * columns_, std::min(kRows, rows - first), out.data() + first * static_cast<int64_t>(row_bytes()));
    }
  });
}

void MatrixRounder::round_rows(float* values, int64_t rows, std::byte* out) const {
  const auto block = formats::block_size(type_);
  if (block.elements == 1) return store_plain(type_, {values, static_cast<size_t>(rows * columns_)}, out);
  const auto* importance = factor_.importance.const_data_ptr<float>();
  const float* factor = factor_.upper.defined() ? factor_.upper.const_data_ptr<float>() : nullptr;
  std::vector<float> errors(static_cast<size_t>(kRows * block.elements));
  for (int64_t first = 0; first < columns_; first += block.elements) {
    const int64_t after = first + block.elements;
    for (int64_t r = 0; r < rows; ++r) {
      float *x = values + r * columns_ + first, *error = errors.data() + r * block.elements;
      formats::BlockGrid grid = formats::choose_grid(type_, x, importance + first);
      for (int64_t i = 0; i < block.elements; ++i) {
        grid.fields.q[i] = grid.level(i, x[i]);
        const float rounded = grid.value(i, grid.fields.q[i]);
        error[i] = x[i] - rounded;
        x[i] = rounded;
        if (factor == nullptr) continue;
        const float* row = factor + (first + i) * columns_ + first;
        for (int64_t k = i + 1; k < block.elements; ++k) x[k] -= error[i] * row[k];
      }
      formats::write_quant_fields(type_, grid.fields, out + r * static_cast<int64_t>(row_bytes()) + first / block.elements * block.bytes);
    }
    if (factor == nullptr || after == columns_) continue;
    const auto errors_now = at::from_blob(errors.data(), {rows, block.elements}, at::kFloat);
    at::from_blob(values + after, {rows, columns_ - after}, {columns_, 1}, at::kFloat)
        .addmm_(errors_now, factor_.upper.slice(0, first, after).slice(1, after), 1, -1);
  }
}

double product_energy(const at::Tensor& weights, const at::Tensor& moments) {
  at::NoGradGuard no_grad;
  const at::Tensor times = moments.defined() ? at::matmul(weights, moments) : weights;
  return at::dot(times.flatten(), weights.flatten()).item<double>();
}

}  // namespace deepseek::precision
