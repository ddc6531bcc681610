// Autograd of sparse attention, over direct calls of the kernels (the library) or over PyTorch's dispatcher (the operators).
#pragma once

#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <string>
#include <tuple>

namespace deepseek::nn {

/// Arguments of kernels::DynamicAttentionOptions as an operator has them.
struct DynamicArguments {
  double value;
  std::string mode;
  bool causal;
  std::optional<double> scale;
  int64_t least;
};

/// Calls::forward(q, k, v, arguments) -> (out, log_sum_exp, threshold, equal_before) and
/// Calls::backward(d_out, q, k, v, log_sum_exp, threshold, equal_before, arguments) -> (dq, dk, dv), both below autograd.
template <typename Calls>
struct DynamicAttentionFunction : torch::autograd::Function<DynamicAttentionFunction<Calls>> {
  using Context = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static List forward(Context* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const DynamicArguments& a) {
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [out, lse, threshold, equal_before] = Calls::forward(q, k, v, a);
    context->save_for_backward({q, k, v, lse, threshold, equal_before});
    context->mark_non_differentiable({lse, threshold, equal_before});
    auto& data = context->saved_data;
    data["value"] = a.value;
    data["mode"] = a.mode;
    data["causal"] = a.causal;
    data["scale"] = a.scale;
    data["least"] = a.least;
    return {out, lse, threshold, equal_before};
  }
  static List backward(Context* context, const List& gradients) {
    const auto s = context->get_saved_variables();
    auto& data = context->saved_data;
    const DynamicArguments a{data["value"].toDouble(), data["mode"].toStringRef(), data["causal"].toBool(), data["scale"].toOptional<double>(), data["least"].toInt()};
    auto [dq, dk, dv] = Calls::backward(gradients[0], s[0], s[1], s[2], s[3], s[4], s[5], a);
    return {dq, dk, dv, {}};
  }
};

/// Calls::forward(q, k, v, keys, scale) -> (out, log_sum_exp); Calls::backward(d_out, q, k, v, keys, out, log_sum_exp, scale) -> (dq, dk, dv).
template <typename Calls>
struct IndexedAttentionFunction : torch::autograd::Function<IndexedAttentionFunction<Calls>> {
  using Context = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static List forward(Context* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keys, const std::optional<double>& scale) {
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [out, lse] = Calls::forward(q, k, v, keys, scale);
    context->save_for_backward({q, k, v, keys, out, lse});
    context->mark_non_differentiable({lse});
    context->saved_data["scale"] = scale;
    return {out, lse};
  }
  static List backward(Context* context, const List& gradients) {
    const auto s = context->get_saved_variables();
    auto [dq, dk, dv] = Calls::backward(gradients[0], s[0], s[1], s[2], s[3], s[4], s[5], context->saved_data["scale"].toOptional<double>());
    return {dq, dk, dv, {}, {}};
  }
};

}  // namespace deepseek::nn
