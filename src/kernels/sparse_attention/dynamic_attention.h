// Attention in which each query of each head reads only the keys with its largest scores; exact selection, never more scores in memory
// than a tile of queries has.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

namespace deepseek::kernels {

struct DynamicAttentionOptions {
  enum class Mode { kRatio, kTopK, kTopP };
  Mode mode = Mode::kRatio;
  double value = 0.4;           ///< kRatio: share of the visible keys, int(visible * value) but at least 1; kTopK: keys; kTopP: softmax mass in (0, 1]
  int64_t least = 1;            ///< kTopP: keys, at least
  bool causal = false;          ///< the queries are the last ones: query i of L sees keys up to S - L + i
  std::optional<double> scale;  ///< of the scores, above 0; none: dim^-0.5
};

/// What the backward pass needs beside the inputs; all [batch, heads, queries].
struct DynamicAttentionRows {
  at::Tensor log_sum_exp;   ///< f32, of the kept scores; NaN: the row is NaN; -infinity: it is 0
  at::Tensor threshold;     ///< f32, of q.k without scale: above it a key is kept
  at::Tensor equal_before;  ///< i32: keys equal to the threshold are kept up to this index
};
struct DynamicAttentionResult {
  at::Tensor out;  ///< [batch, heads, queries, dim], type of q
  DynamicAttentionRows rows;
};
struct DynamicAttentionGradients {
  at::Tensor dq, dk, dv;  ///< as q, k, v
};

/// q: [batch, heads, queries, dim] f32|bf16; k, v: [batch, kv_heads, keys, dim], same type; heads / kv_heads queries share a key head. Any
/// strides. Sums are in f32; the weights of bf16 inputs are rounded to bf16 where bf16_products_pay(). Equal scores go to the lower index. A row
/// with a NaN or +infinite score among its visible ones is NaN; a row whose scores are all -infinite is 0. A key that is left out counts as 0 * v,
/// so v must be finite.
/// The result does not depend on the number of threads, nor on the rest of the batch. Another device than the CPU uses libtorch's operators.
/// Throws c10::Error where shapes, types or devices disagree, a dimension is 0, or an option lies outside its range.
DynamicAttentionResult dynamic_sparse_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const DynamicAttentionOptions& options = {});

/// Gradient with the selection taken as constant. d_out and out: as the result's. Scores are computed again, tile by tile.
DynamicAttentionGradients dynamic_sparse_attention_backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                            const DynamicAttentionRows& rows, const DynamicAttentionOptions& options);

/// The refusals of dynamic_sparse_attention alone.
void check_dynamic_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const DynamicAttentionOptions& options);
/// "ratio", "top_k" or "top_p"; throws c10::Error for another.
DynamicAttentionOptions::Mode dynamic_attention_mode(std::string_view name);

}  // namespace deepseek::kernels
