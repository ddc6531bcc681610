// Inputs and comparisons that the tests of this folder share.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>

#include <vector>

namespace deepseek::kernels {

inline at::Tensor spread(std::vector<int64_t> shape, double offset, double size = 1) {
  int64_t n = 1;
  for (const int64_t s : shape) n *= s;
  // Products of golden fractions mix better than one sequence, whose scores would repeat along a row.
  const at::Tensor i = at::arange(n, at::kDouble), a = i * 0.6180339887498949 + offset, b = (i * i).remainder(7919) * 0.7548776662466927 + offset;
  return ((a - a.floor() + b - b.floor() - 1) * 2 * size).view(shape).to(at::kFloat);
}

inline double difference(const at::Tensor& a, const at::Tensor& b) { return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>(); }

}  // namespace deepseek::kernels
