#include "nn/linear.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include "nn/functional.h"

namespace deepseek::nn {
namespace {

// Norm of each row of W + scale * B A. A constant for the gradient, as in section 4.3 of DoRA.
at::Tensor row_norms(const at::Tensor& weight, const Lora& lora) {
  at::NoGradGuard no_grad;
  const at::Tensor merged = weight.to(at::kFloat) + lora.scale * at::mm(lora.b, lora.a);
  return at::linalg_vector_norm(merged, 2, at::IntArrayRef{1});
}

}  // namespace

at::Tensor Linear::forward(const at::Tensor& x) const {
  at::Tensor y = at::linear(x, weight, bias);
  if (!lora) return y;
  const auto type = x.scalar_type();
  const bool drops = lora->dropout_seed != 0 && lora->dropout > 0;
  const at::Tensor input = drops ? dropout(x, lora->dropout, lora->dropout_seed) : x;
  at::Tensor delta = at::linear(at::linear(input, lora->a.to(type)), (lora->b * lora->scale).to(type));
  if (!lora->magnitude.defined()) return y + delta;
  const at::Tensor factor = (lora->magnitude / row_norms(weight, *lora)).to(type);
  // With dropout the base product is taken of the dropped input too, as PEFT does.
  const at::Tensor base = drops ? at::linear(input, weight) : (bias.defined() ? y - bias : y);
  return y + (factor - 1) * base + factor * delta;
}

at::Tensor Linear::merged_weight() const {
  at::NoGradGuard no_grad;
  if (!lora) return weight.to(at::kFloat);
  at::Tensor merged = weight.to(at::kFloat) + lora->scale * at::mm(lora->b, lora->a);
  if (lora->magnitude.defined()) merged = merged * (lora->magnitude / row_norms(weight, *lora)).unsqueeze(1);
  return merged;
}

void Linear::merge() {
  if (!lora) return;
  weight = merged_weight().to(weight.scalar_type());
  lora.reset();
}

}  // namespace deepseek::nn
