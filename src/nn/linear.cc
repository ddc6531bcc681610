#include "nn/linear.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/custom_function.h>

#include "nn/functional.h"

namespace deepseek::nn {
namespace {

// Norm of each row of W + scale * B A. A constant for the gradient, as in section 4.3 of DoRA.
at::Tensor row_norms(const at::Tensor& weight, const Lora& lora) {
  at::NoGradGuard no_grad;
  const at::Tensor merged = weight.to(at::kFloat) + lora.scale * at::mm(lora.b, lora.a);
  return at::linalg_vector_norm(merged, 2, at::IntArrayRef{1});
}

// x W^T + bias + (x A^T) B^T with the frozen W; the products of the adapter are added where the large ones have been written.
struct LoraFunction : torch::autograd::Function<LoraFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, const at::Tensor& a, const at::Tensor& b, double scale) {
    const auto type = x.scalar_type();
    const at::Tensor down = a.to(type), up = (b * scale).to(type), inner = at::mm(x, down.t());
    context->save_for_backward({x, weight, down, up, inner});
    context->saved_data["scale"] = scale;
    return at::linear(x, weight, bias).addmm_(inner, up.t());
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &down = saved[2], &up = saved[3], &inner = saved[4];
    const at::Tensor dy = gradients[0].contiguous(), d_inner = at::mm(dy, up);
    const at::Tensor da = at::mm(d_inner.t(), x).to(at::kFloat);
    // The narrow factor first: that way round the product is twice as fast.
    const at::Tensor db = at::mm(inner.t(), dy).to(at::kFloat).mul_(context->saved_data["scale"].toDouble()).t();
    at::Tensor dx;
    if (context->needs_input_grad(0)) dx = at::mm(dy, weight).addmm_(d_inner, down);
    return {dx, {}, {}, da, db, {}};
  }
};

}  // namespace

at::Tensor Linear::forward(const at::Tensor& x) const {
  if (!lora) return at::linear(x, weight, bias);
  if (!lora->magnitude.defined() && !(lora->dropout_seed != 0 && lora->dropout > 0)) {
    return LoraFunction::apply(x, weight, bias.defined() ? std::optional(bias) : std::nullopt, lora->a, lora->b, lora->scale);
  }
  at::Tensor y = at::linear(x, weight, bias);
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
