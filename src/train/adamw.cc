#include "train/adamw.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>

namespace deepseek::train {

AdamW::AdamW(std::vector<at::Tensor> parameters, AdamWOptions options) : parameters_(std::move(parameters)), options_(options) {
  for (const auto& parameter : parameters_) {
    first_.push_back(at::zeros_like(parameter, at::TensorOptions().requires_grad(false)));
    second_.push_back(at::zeros_like(parameter, at::TensorOptions().requires_grad(false)));
  }
}

void AdamW::step(double learning_rate) {
  at::NoGradGuard no_grad;
  ++updates_;
  std::vector<at::Tensor> parameters, gradients, first, second, steps;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!parameters_[i].grad().defined()) continue;
    parameters.push_back(parameters_[i]);
    gradients.push_back(parameters_[i].grad());
    first.push_back(first_[i]);
    second.push_back(second_[i]);
    steps.push_back(at::full({}, static_cast<double>(updates_), at::TensorOptions().dtype(at::kFloat).device(parameters_[i].device())));
  }
  if (parameters.empty()) return;
  at::_fused_adamw_(parameters, gradients, first, second, {}, steps, learning_rate, options_.beta1, options_.beta2, options_.weight_decay,
                    options_.eps, /*amsgrad=*/false, /*maximize=*/false);
  for (auto& parameter : parameters) parameter.mutable_grad().reset();
}

double clip_gradients(const std::vector<at::Tensor>& parameters, double max_norm) {
  at::NoGradGuard no_grad;
  double sum = 0;
  for (const auto& parameter : parameters) {
    if (!parameter.grad().defined()) continue;
    const auto norm = at::linalg_vector_norm(parameter.grad()).item<double>();
    sum += norm * norm;
  }
  const double norm = std::sqrt(sum);
  if (max_norm > 0 && norm > max_norm) {
    const double factor = max_norm / (norm + 1e-6);  // as torch.nn.utils.clip_grad_norm_
    for (const auto& parameter : parameters) {
      if (parameter.grad().defined()) parameter.grad().mul_(factor);
    }
  }
  return norm;
}

}  // namespace deepseek::train
