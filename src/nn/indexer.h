// A lightning indexer beside an attention that has none of its own: its parameters, what it makes of a hidden state, and its loss.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

#include "kernels/sparse_attention/indexer_loss.h"

namespace deepseek::nn {

/// Parameters in f32, as DeepSeek-V3.2 names them; queries come from the hidden state itself. Keys are shared by all heads.
struct LightningIndexer {
  int64_t heads = 0, dim = 0, rope_dim = 0;  ///< rope turns the first rope_dim of dim
  at::Tensor wq;            ///< [heads * dim, hidden]
  at::Tensor wk;            ///< [dim, hidden]
  at::Tensor k_norm, k_norm_bias;  ///< [dim], of a LayerNorm
  at::Tensor weights_proj;  ///< [heads, hidden]

  struct Projected {
    at::Tensor q, k, weights;  ///< [n, heads, dim], [n, dim], [n, heads] f32: what kernels::select_keys takes for each sequence
  };
  /// x: [n, hidden], the attention's input, any type; positions [n] i64; inverse_frequencies [rope_dim / 2]. Differentiable in the parameters.
  /// The weights hold the factor (heads * dim)^-0.5. Source: DeepSeek-V3.2-Exp, section 2.1, and its published inference code.
  [[nodiscard]] Projected project(const at::Tensor& x, const at::Tensor& positions, const at::Tensor& inverse_frequencies) const;

  /// "wq.weight", "wk.weight", "k_norm.weight", "k_norm.bias", "weights_proj.weight", each with its place in this struct.
  [[nodiscard]] std::vector<std::pair<const char*, at::Tensor*>> named_parameters();
};

/// sum of kernels::indexer_loss over its queries, divided by `normalizer`; differentiable in index_q, index_k and index_weights.
at::Tensor indexer_loss(const kernels::IndexerLossInputs& inputs, double scale, double normalizer);

}  // namespace deepseek::nn
