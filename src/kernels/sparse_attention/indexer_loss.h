// What a lightning indexer learns from: how far its scores are from where the main attention's probabilities lie.
#pragma once

#include <ATen/core/Tensor.h>

namespace deepseek::kernels {

/// The two distributions of each query over the keys that it sees.
struct IndexerLossInputs {
  at::Tensor index_q;        ///< [batch, queries, index_heads, index_dim] f32
  at::Tensor index_k;        ///< [batch, keys, index_dim] f32
  at::Tensor index_weights;  ///< [batch, queries, index_heads] f32, with every factor in them
  at::Tensor q;              ///< [batch, heads, queries, dim] f32|bf16, of the main attention
  at::Tensor k;              ///< [batch, kv_heads, keys, dim], same type
  at::Tensor keys;           ///< [batch, queries, count] i32 as select_keys() gives them: both distributions are over these keys; undefined: over all
};

struct IndexerLossOptions {
  double scale = 1;        ///< of the main attention's scores
  int64_t recall_of = 0;   ///< keys whose mass is measured; 0: none
  bool gradients = true;
};

struct IndexerLossResult {
  at::Tensor loss;                            ///< [batch, queries] f32, nats
  at::Tensor d_index_q, d_index_k, d_index_weights;  ///< gradients of the sum of the losses
  at::Tensor kept, most;                      ///< [batch, queries] f32: p on the recall_of keys with the largest index scores, and the most that so many keys hold
};

/// loss(t) = KL(p(t) || softmax(I(t))): p is the main attention's softmax averaged over heads, I the index score of select_keys(). The queries are the last
/// ones and causal. Memory beyond the result: rows of a few queries for each thread, and index_k a few times. The result does not depend on the number of threads.
/// Another device than the CPU computes it by libtorch's operators. Throws c10::Error where shapes, types or devices disagree or a dimension is 0.
/// Source: DeepSeek-V3.2-Exp, section 2.1.1.
IndexerLossResult indexer_loss(const IndexerLossInputs& inputs, const IndexerLossOptions& options = {});

}  // namespace deepseek::kernels
