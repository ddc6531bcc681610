// torch.ops.deepseek.*: one shared library that a PyTorch user loads with torch.ops.load_library("libdeepseek_ops.so").
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "kernels/sparse_attention/head_rows.h"
#include "kernels/sparse_attention/indexer.h"
#include "kernels/sparse_attention/indexer_loss.h"
#include "nn/sparse_attention_calls.h"

namespace deepseek::nn {
namespace {

using Scale = std::optional<double>;
using c10::string_view;
using Three = std::tuple<Tensor, Tensor, Tensor>;
using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

Four dynamic_forward(const Tensor& q, const Tensor& k, const Tensor& v, double value, string_view mode, bool causal, Scale scale, int64_t least) {
  return DynamicKernel::forward(q, k, v, {value, std::string(mode), causal, scale, least});
}
Three dynamic_backward(const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& lse, const Tensor& threshold, const Tensor& equal_before,
                       double value, string_view mode, bool causal, Scale scale, int64_t least) {
  return DynamicKernel::backward(d_out, q, k, v, lse, threshold, equal_before, {value, std::string(mode), causal, scale, least});
}
Tensor select(const Tensor& q, const Tensor& k, const Tensor& weights, double value, string_view mode, bool causal, int64_t least, int64_t most) {
  const auto known = kernels::dynamic_attention_mode(mode);
  using Mode = kernels::DynamicAttentionOptions::Mode;
  TORCH_CHECK(known != Mode::kRatio, "indexer: mode 'ratio' is unknown; use top_k or top_p");
  using To = kernels::IndexerOptions::Mode;
  return kernels::select_keys(q, k, weights, {.mode = known == Mode::kTopK ? To::kTopK : To::kTopP, .value = value, .least = least, .most = most, .causal = causal});
}
std::tuple<Tensor, Tensor> sparse_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& keys, Scale scale) {
  return IndexedKernel::forward(q, k, v, keys, scale);
}
Three sparse_backward(const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& keys, const Tensor& out, const Tensor& lse, Scale scale) {
  return IndexedKernel::backward(d_out, q, k, v, keys, out, lse, scale);
}
Four indexer_loss_of(const Tensor& index_q, const Tensor& index_k, const Tensor& weights, const Tensor& q, const Tensor& k, const std::optional<Tensor>& keys, Scale scale) {
  const auto r = kernels::indexer_loss({index_q, index_k, weights, q, k, keys.value_or(Tensor())}, {.scale = kernels::scale_of(scale, q.size(3))});
  const double share = 1.0 / static_cast<double>(r.loss.numel());
  return {r.loss.mean(), r.d_index_q * share, r.d_index_k * share, r.d_index_weights * share};
}

// Shapes alone, for torch.compile.
Tensor rows_of(const Tensor& q, at::ScalarType type) {
  return at::empty_symint({q.sym_size(0), q.sym_size(1), q.sym_size(2)}, q.options().dtype(type));
}
Tensor contiguous_like(const Tensor& x) { return at::empty_symint(x.sym_sizes(), x.options()); }
Three gradients_like(const Tensor& q, const Tensor& k, const Tensor& v) { return {contiguous_like(q), contiguous_like(k), contiguous_like(v)}; }

Four dynamic_forward_meta(const Tensor& q, const Tensor&, const Tensor&, double, string_view, bool, Scale, int64_t) {
  return {contiguous_like(q), rows_of(q, at::kFloat), rows_of(q, at::kFloat), rows_of(q, at::kInt)};
}
Three dynamic_backward_meta(const Tensor&, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor&, const Tensor&, const Tensor&, double, string_view, bool, Scale,
                            int64_t) {
  return gradients_like(q, k, v);
}
Tensor select_meta(const Tensor& q, const Tensor& k, const Tensor&, double value, string_view mode, bool, int64_t, int64_t most) {
  const c10::SymInt count = mode == "top_k" ? static_cast<int64_t>(value) : most;
  return at::empty_symint({q.sym_size(0), q.sym_size(1), k.sym_size(1).min(count)}, q.options().dtype(at::kInt));
}
std::tuple<Tensor, Tensor> sparse_forward_meta(const Tensor& q, const Tensor&, const Tensor& v, const Tensor&, Scale) {
  return {at::empty_symint({q.sym_size(0), q.sym_size(1), q.sym_size(2), v.sym_size(3)}, q.options()), rows_of(q, at::kFloat)};
}
Three sparse_backward_meta(const Tensor&, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor&, const Tensor&, const Tensor&, Scale) {
  return gradients_like(q, k, v);
}
Four indexer_loss_meta(const Tensor& index_q, const Tensor& index_k, const Tensor& weights, const Tensor&, const Tensor&, const std::optional<Tensor>&, Scale) {
  return {at::empty({}, index_q.options()), contiguous_like(index_q), contiguous_like(index_k), contiguous_like(weights)};
}

template <typename Signature>
auto operator_named(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

struct DynamicOperators {
  static Four forward(const Tensor& q, const Tensor& k, const Tensor& v, const DynamicArguments& a) {
    static const auto op = operator_named<decltype(dynamic_forward)>("deepseek::dynamic_sparse_attention_forward");
    return op.call(q, k, v, a.value, a.mode, a.causal, a.scale, a.least);
  }
  static Three backward(const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& lse, const Tensor& threshold, const Tensor& equal_before,
                        const DynamicArguments& a) {
    static const auto op = operator_named<decltype(dynamic_backward)>("deepseek::dynamic_sparse_attention_backward");
    return op.call(d_out, q, k, v, lse, threshold, equal_before, a.value, a.mode, a.causal, a.scale, a.least);
  }
};
struct SparseOperators {
  static std::tuple<Tensor, Tensor> forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& keys, Scale scale) {
    static const auto op = operator_named<decltype(sparse_forward)>("deepseek::sparse_attention_forward");
    return op.call(q, k, v, keys, scale);
  }
  static Three backward(const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& keys, const Tensor& out, const Tensor& lse, Scale scale) {
    static const auto op = operator_named<decltype(sparse_backward)>("deepseek::sparse_attention_backward");
    return op.call(d_out, q, k, v, keys, out, lse, scale);
  }
};

// The forward pass makes the gradients too: they need the same products.
struct IndexerLossOperator : torch::autograd::Function<IndexerLossOperator> {
  using Context = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static List forward(Context* context, const Tensor& index_q, const Tensor& index_k, const Tensor& weights, const Tensor& q, const Tensor& k, const std::optional<Tensor>& keys,
                      const Scale& scale) {
    const at::AutoDispatchBelowADInplaceOrView below;
    static const auto op = operator_named<decltype(indexer_loss_of)>("deepseek::indexer_loss_forward");
    const auto [loss, dq, dk, dw] = op.call(index_q, index_k, weights, q, k, keys, scale);
    context->save_for_backward({dq, dk, dw});
    context->mark_non_differentiable({dq, dk, dw});
    return {loss, dq, dk, dw};
  }
  static List backward(Context* context, const List& gradients) {
    const auto s = context->get_saved_variables();
    return {s[0] * gradients[0], s[1] * gradients[0], s[2] * gradients[0], {}, {}, {}, {}};
  }
};

Four indexer_loss_autograd(const Tensor& index_q, const Tensor& index_k, const Tensor& weights, const Tensor& q, const Tensor& k, const std::optional<Tensor>& keys, Scale scale) {
  const auto out = IndexerLossOperator::apply(index_q, index_k, weights, q, k, keys, scale);
  return {out[0], out[1], out[2], out[3]};
}

Four dynamic_autograd(const Tensor& q, const Tensor& k, const Tensor& v, double value, string_view mode, bool causal, Scale scale, int64_t least) {
  const auto out = DynamicAttentionFunction<DynamicOperators>::apply(q, k, v, DynamicArguments{value, std::string(mode), causal, scale, least});
  return {out[0], out[1], out[2], out[3]};
}
std::tuple<Tensor, Tensor> sparse_autograd(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& keys, Scale scale) {
  const auto out = IndexedAttentionFunction<SparseOperators>::apply(q, k, v, keys, scale);
  return {out[0], out[1]};
}

// What a user calls: the result alone.
Tensor dynamic_sparse_attention_operator(const Tensor& q, const Tensor& k, const Tensor& v, double value, string_view mode, bool causal, Scale scale, int64_t least) {
  return std::get<0>(DynamicOperators::forward(q, k, v, {value, std::string(mode), causal, scale, least}));
}
Tensor sparse_attention_operator(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& keys, Scale scale) {
  return std::get<0>(SparseOperators::forward(q, k, v, keys, scale));
}
Tensor indexer_loss_operator(const Tensor& index_q, const Tensor& index_k, const Tensor& weights, const Tensor& q, const Tensor& k, const std::optional<Tensor>& keys, Scale scale) {
  static const auto op = operator_named<decltype(indexer_loss_of)>("deepseek::indexer_loss_forward");
  return std::get<0>(op.call(index_q, index_k, weights, q, k, keys, scale));
}

}  // namespace

TORCH_LIBRARY(deepseek, m) {
  const std::string choice = "float value=0.4, str mode=\"ratio\", bool causal=False, float? scale=None, int least=1";
  const std::string plain_choice = "float value, str mode, bool causal, float? scale, int least";
  m.def(("dynamic_sparse_attention(Tensor q, Tensor k, Tensor v, " + choice + ") -> Tensor").c_str());
  m.def(("dynamic_sparse_attention_forward(Tensor q, Tensor k, Tensor v, " + choice + ") -> (Tensor out, Tensor log_sum_exp, Tensor threshold, Tensor equal_before)").c_str());
  m.def(("dynamic_sparse_attention_backward(Tensor d_out, Tensor q, Tensor k, Tensor v, Tensor log_sum_exp, Tensor threshold, Tensor equal_before, " + plain_choice +
         ") -> (Tensor dq, Tensor dk, Tensor dv)").c_str());
  m.def("select_keys(Tensor q, Tensor k, Tensor weights, float value=2048, str mode=\"top_k\", bool causal=True, int least=1, int most=2048) -> Tensor");
  const std::string loss = "(Tensor index_q, Tensor index_k, Tensor weights, Tensor q, Tensor k, Tensor? keys=None, float? scale=None) -> ";
  m.def(("indexer_loss" + loss + "Tensor").c_str());
  m.def(("indexer_loss_forward" + loss + "(Tensor loss, Tensor d_index_q, Tensor d_index_k, Tensor d_weights)").c_str());
  m.def("sparse_attention(Tensor q, Tensor k, Tensor v, Tensor keys, float? scale=None) -> Tensor");
  m.def("sparse_attention_forward(Tensor q, Tensor k, Tensor v, Tensor keys, float? scale=None) -> (Tensor out, Tensor log_sum_exp)");
  m.def("sparse_attention_backward(Tensor d_out, Tensor q, Tensor k, Tensor v, Tensor keys, Tensor out, Tensor log_sum_exp, float? scale) -> (Tensor dq, Tensor dk, Tensor dv)");
}

TORCH_LIBRARY_IMPL(deepseek, CompositeImplicitAutograd, m) {
  m.impl("dynamic_sparse_attention", dynamic_sparse_attention_operator);
  m.impl("sparse_attention", sparse_attention_operator);
  m.impl("indexer_loss", indexer_loss_operator);
}

TORCH_LIBRARY_IMPL(deepseek, CompositeExplicitAutograd, m) {
  m.impl("dynamic_sparse_attention_forward", dynamic_forward);
  m.impl("dynamic_sparse_attention_backward", dynamic_backward);
  m.impl("select_keys", select);
  m.impl("indexer_loss_forward", indexer_loss_of);
  m.impl("sparse_attention_forward", sparse_forward);
  m.impl("sparse_attention_backward", sparse_backward);
}

TORCH_LIBRARY_IMPL(deepseek, Meta, m) {
  m.impl("dynamic_sparse_attention_forward", dynamic_forward_meta);
  m.impl("dynamic_sparse_attention_backward", dynamic_backward_meta);
  m.impl("select_keys", select_meta);
  m.impl("indexer_loss_forward", indexer_loss_meta);
  m.impl("sparse_attention_forward", sparse_forward_meta);
  m.impl("sparse_attention_backward", sparse_backward_meta);
}

TORCH_LIBRARY_IMPL(deepseek, Autograd, m) {
  m.impl("dynamic_sparse_attention_forward", dynamic_autograd);
  m.impl("sparse_attention_forward", sparse_autograd);
  m.impl("indexer_loss_forward", indexer_loss_autograd);
}

}  // namespace deepseek::nn
