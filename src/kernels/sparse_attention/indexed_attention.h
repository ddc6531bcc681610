// Attention of each query over the keys that a list names for it, the same for all heads.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace deepseek::kernels {

struct IndexedAttentionResult {
  at::Tensor out;            ///< [batch, heads, queries, value_dim], type of q
  at::Tensor log_sum_exp;    ///< [batch, heads, queries] f32, of the scaled scores; -infinity where no key is named
};
struct IndexedAttentionGradients {
  at::Tensor dq, dk, dv;  ///< as q, k, v
};

/// q: [batch, heads, queries, dim] f32|bf16; k: [batch, kv_heads, keys, dim], v: [batch, kv_heads, keys, value_dim], same type; heads / kv_heads
/// queries share a key head. MLA's latent form is kv_heads = 1 with v the first columns of k. keys: [batch, queries, count] i32: each row names the
/// keys of its query, -1 for none. scale: of the scores; none: dim^-0.5. Any strides; arithmetic in f32. A query without keys gets 0.
/// The result does not depend on the number of threads, nor on the rest of the batch. Another device than the CPU uses libtorch's operators.
/// Throws c10::Error where shapes, types or devices disagree, a dimension is 0, or a key lies outside [-1, keys).
IndexedAttentionResult indexed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keys, std::optional<double> scale = {});

/// Gradient with the lists taken as constant. d_out: as the result's out.
IndexedAttentionGradients indexed_attention_backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keys,
                                                     const IndexedAttentionResult& result, std::optional<double> scale = {});

/// The refusals of indexed_attention that need no look at the lists.
void check_indexed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keys, std::optional<double> scale);

}  // namespace deepseek::kernels
