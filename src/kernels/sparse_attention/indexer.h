// DeepSeek's lightning indexer: a small product says which keys a query of the main attention reads, the same for all of its heads.
#pragma once

#include <ATen/core/Tensor.h>

#include <limits>

namespace deepseek::kernels {

struct IndexerOptions {
  enum class Mode { kTopK, kTopP };
  Mode mode = Mode::kTopK;
  double value = 2048;   ///< kTopK: keys, all where fewer are visible; kTopP: mass of softmax(index scores) in (0, 1]
  int64_t least = 1;     ///< kTopP: keys, at least (all where fewer are visible)
  int64_t most = 2048;   ///< kTopP: keys, at most
  bool causal = true;    ///< the queries are the last ones: query t of L sees keys up to S - L + t
};

/// Index score of query t for key s: I(t, s) = sum_j w(t, j) relu(q(t, j) . k(s)); the keys with the largest are chosen.
/// q: [batch, queries, heads, dim], k: [batch, keys, dim], f32|bf16, same type; weights: [batch, queries, heads] f32, with every factor in them.
/// Returns [batch, queries, min(count, keys)] i32, count = value or `most`: key indices ascending, then -1. Equal scores go to the lower index;
/// a score that is NaN or +infinite counts as the largest. Of the scores no more than rows of a few queries are in memory.
/// The choice does not depend on threads nor on the rest of the batch. Another device than the CPU computes it by libtorch's operators.
/// Throws c10::Error where shapes or types disagree, a dimension is 0, or an option lies outside its range.
/// Source: DeepSeek-V3.2-Exp, section 2.1.
at::Tensor select_keys(const at::Tensor& q, const at::Tensor& k, const at::Tensor& weights, const IndexerOptions& options = {});

/// The refusals of select_keys alone.
void check_indexer(const at::Tensor& q, const at::Tensor& k, const at::Tensor& weights, const IndexerOptions& options);

/// The scores themselves, [batch, queries, keys] f32, by libtorch's operators and so with a gradient; -infinity where a key is not visible.
at::Tensor index_scores(const at::Tensor& q, const at::Tensor& k, const at::Tensor& weights, bool causal);

}  // namespace deepseek::kernels
