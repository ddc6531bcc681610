// Differentiable operations of a transformer over packed tokens [T, ...]; the arithmetic is in kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace deepseek::nn {

/// RMSNorm over the last dimension; the weight is frozen. x: [..., n] f32|bf16.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool plus_one);

/// Rotary embedding of x [T, heads, dim]; see kernels::rope.
at::Tensor rope(const at::Tensor& x, const at::Tensor& positions, const at::Tensor& inverse_frequencies);

/// act(gate) * up; SiLU or tanh-GELU.
at::Tensor glu(const at::Tensor& gate, const at::Tensor& up, bool gelu);

/// Dropout whose mask is a function of the seed alone; see kernels::dropout.
at::Tensor dropout(const at::Tensor& x, double p, uint64_t seed);

struct AttentionOptions {
  double scale = 1.0;
  double softcap = 0.0;        ///< scores become softcap * tanh(scores / softcap); 0: none
  int64_t sliding_window = 0;  ///< keys that a query sees, its own included; 0: all before it
};

/// Causal attention inside each sequence: q [T, heads, dim], k and v [T, kv_heads, dim]; sequence i is rows
/// [offsets[i], offsets[i + 1]). Returns [T, heads * dim]. Grouped queries share a key head in blocks of heads / kv_heads.
at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::vector<int64_t>& offsets,
                            const AttentionOptions& options);

/// Sequences of one length that stand side by side in a pack: `sequences` of `length` rows each, from row `begin` on.
struct Run {
  int64_t begin, sequences, length;
};
[[nodiscard]] std::vector<Run> runs_of_equal_length(const std::vector<int64_t>& offsets);

/// Attention of every position over all of its own sequence, as encoders have it. q, k, v: [T, heads, dim], the last dimension
/// contiguous; returns [T, heads * dim]. Each run of equal length is one product: order the sequences by length.
at::Tensor full_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::vector<int64_t>& offsets, double scale);

/// Attention of the last q.size(0) positions over all k.size(0): the step with a cache. No gradient.
at::Tensor cached_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options);

/// Mean of the losses of rows whose weight is not zero, weighted: sum(weights * loss) / normalizer. Differentiable in hidden.
/// hidden: [n, hidden]; head: [vocab, hidden]; targets: [n] i64; weights: [n] f32.
at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets, const at::Tensor& weights,
                                double normalizer, double softcap);

/// Runs body(x) without keeping what its gradient needs, and again in the backward pass. Gradients of parameters inside body
/// are accumulated by the second run. Source: Chen et al. 2016.
at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& body, const at::Tensor& x);

}  // namespace deepseek::nn
