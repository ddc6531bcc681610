#include "nn/sparse_attention.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>

#include <algorithm>
#include <cmath>

#include "nn/sparse_attention_calls.h"

namespace deepseek::nn {
namespace {

using Mode = kernels::DynamicAttentionOptions::Mode;

const char* name_of(Mode mode) { return mode == Mode::kRatio ? "ratio" : mode == Mode::kTopK ? "top_k" : "top_p"; }

at::Tensor first_weights(at::IntArrayRef shape, double bound, const at::Generator& generator) {
  return at::empty(shape, at::kFloat).uniform_(-bound, bound, generator).requires_grad_(true);
}

}  // namespace

at::Tensor dynamic_sparse_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const kernels::DynamicAttentionOptions& o) {
  return DynamicAttentionFunction<DynamicKernel>::apply(q, k, v, DynamicArguments{o.value, name_of(o.mode), o.causal, o.scale, o.least})[0];
}

at::Tensor indexed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keys, std::optional<double> scale) {
  return IndexedAttentionFunction<IndexedKernel>::apply(q, k, v, keys, scale)[0];
}

DynamicSparseAttention::DynamicSparseAttention(int64_t dim, int64_t num_heads, double sparsity_ratio, const DynamicSparseAttentionOptions& options)
    : dim_(dim), heads_(num_heads), kept_(1 - sparsity_ratio), options_(options) {
  TORCH_CHECK(dim > 0 && num_heads > 0 && dim % num_heads == 0, "sparse attention: dim ", dim, " is no multiple of ", num_heads, " heads");
  TORCH_CHECK(sparsity_ratio >= 0 && sparsity_ratio < 1, "sparse attention: the sparsity ratio lies in [0, 1), not ", sparsity_ratio);
  TORCH_CHECK(options.top_k >= 1 && options.top_k == std::floor(options.top_k), "sparse attention: top_k is a whole number from 1, not ", options.top_k);
  TORCH_CHECK(options.top_p > 0 && options.top_p <= 1, "sparse attention: top_p lies above 0, up to 1; not ", options.top_p);
  TORCH_CHECK(options.least >= 1, "sparse attention: at least 1 key is kept, not ", options.least);
  const double bound = 1 / std::sqrt(static_cast<double>(dim));
  const at::Generator generator = at::detail::createCPUGenerator(options.seed);
  qkv_weight_ = first_weights({3 * dim, dim}, bound, generator);
  proj_weight_ = first_weights({dim, dim}, bound, generator);
  if (!options.bias) return;
  qkv_bias_ = first_weights({3 * dim}, bound, generator);
  proj_bias_ = first_weights({dim}, bound, generator);
}

at::Tensor DynamicSparseAttention::forward(const at::Tensor& x) const {
  TORCH_CHECK(x.dim() == 3 && x.size(2) == dim_, "sparse attention: x must be [batch, length, ", dim_, "], got ", x.sizes());
  const auto qkv = at::linear(x, qkv_weight_, qkv_bias_).unflatten(2, {3, heads_, dim_ / heads_}).permute({2, 0, 3, 1, 4}).unbind(0);  // each [batch, heads, length, dim]
  const double value = options_.mode == Mode::kRatio ? kept_ : options_.mode == Mode::kTopP ? options_.top_p : std::min(options_.top_k, static_cast<double>(x.size(1)));
  const at::Tensor out = dynamic_sparse_attention(qkv[0], qkv[1], qkv[2], {.mode = options_.mode, .value = value, .least = options_.least, .causal = options_.causal});
  return at::linear(out.transpose(1, 2).flatten(2), proj_weight_, proj_bias_);
}

std::vector<std::pair<std::string, at::Tensor>> DynamicSparseAttention::named_parameters() const {
  std::vector<std::pair<std::string, at::Tensor>> named{{"qkv.weight", qkv_weight_}, {"proj.weight", proj_weight_}};
  if (options_.bias) named.insert(named.end(), {{"qkv.bias", qkv_bias_}, {"proj.bias", proj_bias_}});
  return named;
}

}  // namespace deepseek::nn
