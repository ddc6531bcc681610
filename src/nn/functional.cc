#include "nn/functional.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/elementwise/elementwise.h"

namespace deepseek::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct RmsNormFunction : Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double eps, bool plus_one) {
    auto [y, rstd] = kernels::rms_norm(x, weight, eps, plus_one);
    context->save_for_backward({x, weight, rstd});
    context->saved_data["plus_one"] = plus_one;
    return y;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    return {kernels::rms_norm_backward(gradients[0], saved[0], saved[1], saved[2], context->saved_data["plus_one"].toBool()), {}, {}, {}};
  }
};

struct RopeFunction : Function<RopeFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& positions, const at::Tensor& frequencies) {
    context->save_for_backward({positions, frequencies});
    return kernels::rope(x, positions, frequencies, false);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    return {kernels::rope(gradients[0], saved[0], saved[1], true), {}, {}};
  }
};

struct GluFunction : Function<GluFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up, bool gelu) {
    context->save_for_backward({gate, up});
    context->saved_data["gelu"] = gelu;
    return kernels::glu(gate, up, gelu);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    auto [dgate, dup] = kernels::glu_backward(gradients[0], saved[0], saved[1], context->saved_data["gelu"].toBool());
    return {dgate, dup, {}};
  }
};

struct DropoutFunction : Function<DropoutFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, double p, int64_t seed) {
    context->saved_data["p"] = p;
    context->saved_data["seed"] = seed;
    return kernels::dropout(x, p, static_cast<uint64_t>(seed));
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto seed = static_cast<uint64_t>(context->saved_data["seed"].toInt());
    return {kernels::dropout(gradients[0], context->saved_data["p"].toDouble(), seed), {}, {}};
  }
};

struct CrossEntropyFunction : Function<CrossEntropyFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                            const at::Tensor& weights, double normalizer, double softcap) {
    const bool gradient = hidden.requires_grad();
    auto result = kernels::linear_cross_entropy(hidden, head, targets, weights, gradient, {.softcap = softcap});
    if (gradient) context->save_for_backward({result.hidden_gradient});
    context->saved_data["normalizer"] = normalizer;
    return (result.losses * weights).sum() / normalizer;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor gradient = context->get_saved_variables()[0];
    const double factor = gradients[0].item<double>() / context->saved_data["normalizer"].toDouble();
    return {gradient * factor, {}, {}, {}, {}, {}};
  }
};

struct CheckpointFunction : Function<CheckpointFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const std::function<at::Tensor(const at::Tensor&)>* body,
                            const at::Tensor& /*anchor*/) {
    context->save_for_backward({x});
    context->saved_data["body"] = reinterpret_cast<int64_t>(new std::function<at::Tensor(const at::Tensor&)>(*body));
    at::AutoDispatchBelowADInplaceOrView below;
    at::NoGradGuard no_grad;
    return (*body)(x);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const std::unique_ptr<std::function<at::Tensor(const at::Tensor&)>> body(
        reinterpret_cast<std::function<at::Tensor(const at::Tensor&)>*>(context->saved_data["body"].toInt()));
    at::AutoGradMode with_grad(true);
    const at::Tensor x = context->get_saved_variables()[0].detach().requires_grad_(true);
    const at::Tensor y = (*body)(x);
    torch::autograd::backward({y}, {gradients[0]});
    return {x.grad(), {}, {}};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool plus_one) {
  return RmsNormFunction::apply(x, weight, eps, plus_one);
}

at::Tensor rope(const at::Tensor& x, const at::Tensor& positions, const at::Tensor& inverse_frequencies) {
  return RopeFunction::apply(x, positions, inverse_frequencies);
}

at::Tensor glu(const at::Tensor& gate, const at::Tensor& up, bool gelu) { return GluFunction::apply(gate, up, gelu); }

at::Tensor dropout(const at::Tensor& x, double p, uint64_t seed) { return DropoutFunction::apply(x, p, static_cast<int64_t>(seed)); }

at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets, const at::Tensor& weights,
                                double normalizer, double softcap) {
  return CrossEntropyFunction::apply(hidden, head, targets, weights, normalizer, softcap);
}

at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& body, const at::Tensor& x) {
  // The anchor makes the output differentiable where x is not, as in the first layer.
  const at::Tensor anchor = at::empty({0}, x.options().dtype(at::kFloat)).requires_grad_(true);
  return CheckpointFunction::apply(x, &body, anchor);
}

}  // namespace deepseek::nn
