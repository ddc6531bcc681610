#include "nn/functional.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/where.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>

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

// [L, kv_heads, dim] -> [1, heads, L, dim]; a view where there is one key head or as many as queries.
at::Tensor spread_heads(const at::Tensor& x, int64_t heads) {
  const int64_t kv_heads = x.size(1);
  const at::Tensor by_head = x.transpose(0, 1).unsqueeze(0);
  if (kv_heads == heads) return by_head;
  if (kv_heads == 1) return by_head.expand({1, heads, x.size(0), x.size(2)});
  return by_head.unsqueeze(2).expand({1, kv_heads, heads / kv_heads, x.size(0), x.size(2)}).reshape({1, heads, x.size(0), x.size(2)});
}

// Which keys each of the last `queries` positions sees: [queries, keys] bool.
at::Tensor visible(int64_t queries, int64_t keys, int64_t window, const at::Device& device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const at::Tensor query = at::arange(keys - queries, keys, options).unsqueeze(1), key = at::arange(keys, options).unsqueeze(0);
  at::Tensor seen = key <= query;
  if (window > 0) seen = seen & (key > query - window);
  return seen;
}

at::Tensor softcapped(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& seen, const AttentionOptions& options) {
  at::Tensor scores = at::matmul(q, k.transpose(-2, -1)) * options.scale;
  scores = (scores / options.softcap).tanh() * options.softcap;
  scores = scores.masked_fill(~seen, -std::numeric_limits<float>::infinity());
  return at::matmul(at::softmax(scores, -1, at::kFloat).to(q.scalar_type()), v);
}

// q: [L, heads, dim] are the last rows of a sequence whose keys are k, v: [S, kv_heads, dim]. Returns [L, heads * dim].
at::Tensor one_sequence(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options) {
  const int64_t queries = q.size(0), keys = k.size(0), heads = q.size(1);
  const at::Tensor qh = q.transpose(0, 1).unsqueeze(0), kh = spread_heads(k, heads), vh = spread_heads(v, heads);
  const bool slides = options.sliding_window > 0 && keys > options.sliding_window;
  at::Tensor out;
  if (options.softcap > 0) {
    out = softcapped(qh, kh, vh, visible(queries, keys, options.sliding_window, q.device()), options);
  } else if (!slides && (queries == keys || queries == 1)) {
    out = at::scaled_dot_product_attention(qh, kh, vh, {}, 0.0, queries > 1, options.scale);
  } else {
    const at::Tensor seen = visible(queries, keys, options.sliding_window, q.device());
    const at::Tensor bias = at::where(seen, 0.0, -std::numeric_limits<float>::infinity()).to(q.scalar_type());
    out = at::scaled_dot_product_attention(qh, kh, vh, bias.unsqueeze(0).unsqueeze(0), 0.0, false, options.scale);
  }
  return out.squeeze(0).transpose(0, 1).reshape({queries, -1});
}

// All sequences have the length L: one call for all of them.
at::Tensor equal_lengths(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t length, double scale) {
  const int64_t count = q.size(0) / length, heads = q.size(1), kv_heads = k.size(1), dim = q.size(2);
  const auto by_head = [&](const at::Tensor& x) {
    at::Tensor view = x.view({count, length, x.size(1), dim}).transpose(1, 2);
    if (x.size(1) == heads) return view;
    return view.unsqueeze(2).expand({count, kv_heads, heads / kv_heads, length, dim}).reshape({count, heads, length, dim});
  };
  const at::Tensor out = at::scaled_dot_product_attention(by_head(q), by_head(k), by_head(v), {}, 0.0, true, scale);
  return out.transpose(1, 2).reshape({count * length, heads * dim});
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool plus_one) {
  return RmsNormFunction::apply(x, weight, eps, plus_one);
}

at::Tensor rope(const at::Tensor& x, const at::Tensor& positions, const at::Tensor& inverse_frequencies) {
  return RopeFunction::apply(x, positions, inverse_frequencies);
}

at::Tensor glu(const at::Tensor& gate, const at::Tensor& up, bool gelu) { return GluFunction::apply(gate, up, gelu); }

at::Tensor dropout(const at::Tensor& x, double p, uint64_t seed) { return DropoutFunction::apply(x, p, static_cast<int64_t>(seed)); }

at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::vector<int64_t>& offsets,
                            const AttentionOptions& options) {
  const size_t count = offsets.size() - 1;
  const int64_t length = offsets[1] - offsets[0];
  bool equal = options.softcap == 0 && (options.sliding_window == 0 || length <= options.sliding_window);
  for (size_t i = 0; i < count; ++i) equal = equal && offsets[i + 1] - offsets[i] == length;
  if (equal) return equal_lengths(q, k, v, length, options.scale);
  std::vector<at::Tensor> parts;
  parts.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const int64_t at = offsets[i], n = offsets[i + 1] - offsets[i];
    parts.push_back(one_sequence(q.narrow(0, at, n), k.narrow(0, at, n), v.narrow(0, at, n), options));
  }
  return at::cat(parts, 0);
}

at::Tensor cached_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options) {
  return one_sequence(q, k, v, options);
}

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
