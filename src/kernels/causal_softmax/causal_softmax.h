// Softmax of attention scores under a causal mask, and its gradient: the part of attention between its matrix products.
#pragma once

#include <ATen/core/Tensor.h>

namespace deepseek::kernels {

struct CausalSoftmaxOptions {
  int64_t group = 1;    ///< query heads that share a key head: row r belongs to position r / group
  int64_t window = 0;   ///< keys that a query sees, its own included; 0: all up to its own
  double scale = 1.0;   ///< of the scores
};

/// p = softmax(scale * scores) over the keys that each row sees, 0 elsewhere. scores: [positions * group, positions] f32, contiguous.
/// probabilities: the same shape, f32|bf16, contiguous, written.
void causal_softmax(const at::Tensor& scores, const CausalSoftmaxOptions& options, at::Tensor& probabilities);

/// In place: gradient (of p) becomes the gradient of the scores, scale * p * (g - sum(p g)). Both as `probabilities` above.
void causal_softmax_backward(const at::Tensor& probabilities, const CausalSoftmaxOptions& options, at::Tensor& gradient);

}  // namespace deepseek::kernels
