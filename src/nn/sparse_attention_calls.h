// The kernels of sparse attention with tensors and plain values as arguments.
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

#include "kernels/sparse_attention/dynamic_attention.h"
#include "kernels/sparse_attention/indexed_attention.h"
#include "nn/sparse_attention_function.h"

namespace deepseek::nn {

using at::Tensor;

inline kernels::DynamicAttentionOptions options_of(const DynamicArguments& a) {
  return {.mode = kernels::dynamic_attention_mode(a.mode), .value = a.value, .least = a.least, .causal = a.causal, .scale = a.scale};
}

struct DynamicKernel {
  static std::tuple<Tensor, Tensor, Tensor, Tensor> forward(const Tensor& q, const Tensor& k, const Tensor& v, const DynamicArguments& a) {
    auto r = kernels::dynamic_sparse_attention(q, k, v, options_of(a));
    return {r.out, r.rows.log_sum_exp, r.rows.threshold, r.rows.equal_before};
  }
  static std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& lse, const Tensor& threshold,
                                                     const Tensor& equal_before, const DynamicArguments& a) {
    auto r = kernels::dynamic_sparse_attention_backward(d_out, q, k, v, {lse, threshold, equal_before}, options_of(a));
    return {r.dq, r.dk, r.dv};
  }
};

struct IndexedKernel {
  static std::tuple<Tensor, Tensor> forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& keys, std::optional<double> scale) {
    auto r = kernels::indexed_attention(q, k, v, keys, scale);
    return {r.out, r.log_sum_exp};
  }
  static std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& keys, const Tensor& out,
                                                     const Tensor& lse, std::optional<double> scale) {
    auto r = kernels::indexed_attention_backward(d_out, q, k, v, keys, {out, lse}, scale);
    return {r.dq, r.dk, r.dv};
  }
};

}  // namespace deepseek::nn
