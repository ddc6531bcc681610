#include "nn/indexer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "nn/functional.h"

namespace deepseek::nn {
namespace {

constexpr double kNormEps = 1e-6;

// The forward pass makes the gradients too: they need the same products.
struct IndexerLossFunction : torch::autograd::Function<IndexerLossFunction> {
  using Context = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static at::Tensor forward(Context* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& weights, const kernels::IndexerLossInputs& in, double scale,
                            double normalizer) {
    const at::AutoDispatchBelowADInplaceOrView below;
    kernels::IndexerLossInputs inputs = in;
    inputs.index_q = q, inputs.index_k = k, inputs.index_weights = weights;
    const auto r = kernels::indexer_loss(inputs, {.scale = scale});
    context->save_for_backward({r.d_index_q, r.d_index_k, r.d_index_weights});
    context->saved_data["normalizer"] = normalizer;
    return r.loss.sum() / normalizer;
  }
  static List backward(Context* context, const List& gradients) {
    const auto s = context->get_saved_variables();
    const at::Tensor factor = gradients[0] / context->saved_data["normalizer"].toDouble();
    return {s[0] * factor, s[1] * factor, s[2] * factor, {}, {}, {}};
  }
};

}  // namespace

LightningIndexer::Projected LightningIndexer::project(const at::Tensor& x_in, const at::Tensor& positions, const at::Tensor& frequencies) const {
  const at::Tensor x = x_in.to(at::kFloat);
  const int64_t n = x.size(0);
  const auto turned = [&](const at::Tensor& values) {
    return rope_dim == dim ? rope(values, positions, frequencies)
                           : at::cat({rope(values.narrow(2, 0, rope_dim).contiguous(), positions, frequencies), values.narrow(2, rope_dim, dim - rope_dim)}, 2);
  };
  const at::Tensor q = turned(at::linear(x, wq).view({n, heads, dim}));
  const at::Tensor k = turned(at::layer_norm(at::linear(x, wk), {dim}, k_norm, k_norm_bias, kNormEps).view({n, 1, dim})).squeeze(1);
  return {q, k, at::linear(x, weights_proj) * (1 / std::sqrt(static_cast<double>(heads * dim)))};
}

std::vector<std::pair<const char*, at::Tensor*>> LightningIndexer::named_parameters() {
  return {{"wq.weight", &wq}, {"wk.weight", &wk}, {"k_norm.weight", &k_norm}, {"k_norm.bias", &k_norm_bias}, {"weights_proj.weight", &weights_proj}};
}

at::Tensor indexer_loss(const kernels::IndexerLossInputs& in, double scale, double normalizer) {
  return IndexerLossFunction::apply(in.index_q, in.index_k, in.index_weights, in, scale, normalizer);
}

}  // namespace deepseek::nn
