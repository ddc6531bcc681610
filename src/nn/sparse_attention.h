// Sparse attention with gradients: the kernels of kernels/sparse_attention for autograd, and a layer.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/sparse_attention/dynamic_attention.h"

namespace deepseek::nn {

/// kernels::dynamic_sparse_attention's out, differentiable in q, k and v; the choice of keys has no gradient.
at::Tensor dynamic_sparse_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const kernels::DynamicAttentionOptions& options = {});

/// kernels::indexed_attention's out, differentiable in q, k and v.
at::Tensor indexed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keys, std::optional<double> scale = {});

struct DynamicSparseAttentionOptions {
  using Mode = kernels::DynamicAttentionOptions::Mode;
  Mode mode = Mode::kRatio;
  double top_k = 64;    ///< kTopK: keys of each query; all where a sequence is shorter
  double top_p = 0.95;  ///< kTopP: softmax mass of each query
  int64_t least = 1;    ///< kTopP: keys, at least
  bool causal = false;
  bool bias = true;
  uint64_t seed = 0;    ///< of the first weights
};

/// Self-attention in which each query of each head reads only its largest scores.
class DynamicSparseAttention {
 public:
  /// sparsity_ratio: share of the keys that each query leaves out (kRatio), in [0, 1). Weights are f32, uniform in +-1/sqrt(dim), and
  /// require gradients. Throws c10::Error where dim is no multiple of num_heads or an option lies outside its range.
  DynamicSparseAttention(int64_t dim, int64_t num_heads, double sparsity_ratio = 0.6, const DynamicSparseAttentionOptions& options = {});

  /// x: [batch, length, dim], type of the weights; returns the same shape. int(length * (1 - sparsity_ratio)) keys are kept, at least 1
  /// (causal: of those that a query sees).
  [[nodiscard]] at::Tensor forward(const at::Tensor& x) const;

  /// "qkv.weight" [3 dim, dim], "qkv.bias", "proj.weight" [dim, dim], "proj.bias", as PyTorch's modules name them.
  [[nodiscard]] std::vector<std::pair<std::string, at::Tensor>> named_parameters() const;

 private:
  int64_t dim_, heads_;
  double kept_;
  DynamicSparseAttentionOptions options_;
  at::Tensor qkv_weight_, qkv_bias_, proj_weight_, proj_bias_;
};

}  // namespace deepseek::nn
