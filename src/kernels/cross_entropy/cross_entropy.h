// Cross-entropy of a language model's output head without ever holding all logits, and with a gradient that skips
// the vocabulary that cannot matter.
#pragma once

#include <ATen/core/Tensor.h>

namespace deepseek::kernels {

struct CrossEntropyOptions {
  double softcap = 0.0;      ///< Gemma 2: logits become softcap * tanh(logits / softcap); 0: none
  double min_probability = -1;  ///< words less probable than this in every row of a chunk carry no gradient; < 0: by type (see below)
  int64_t chunk_rows = 128;  ///< rows whose logits exist at one time
};

struct CrossEntropyResult {
  at::Tensor losses;          ///< [n] f32: -log p(target)
  at::Tensor hidden_gradient; ///< [n, hidden], type of hidden: d(sum of weighted losses)/d(hidden); undefined unless asked for
  double share_of_vocabulary = 0;  ///< mean share of the head's rows that took part in the gradient
};

/// hidden: [n, hidden] f32|bf16; head: [vocab, hidden] of the same type; targets: [n] i64; weights: [n] f32 or undefined (ones).
/// With `gradient`, also the gradient of sum(weights * losses). The default min_probability is 1e-5 for bf16 (whose rounding of
/// each p is 4e-3 p) and 1e-9 for f32. Source of the filter: Cut Cross-Entropy (Wijmans et al. 2024), here with exact selection
/// by column instead of by block. Throws c10::Error where shapes or types disagree or a target is outside the vocabulary.
CrossEntropyResult linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                                        const at::Tensor& weights, bool gradient, const CrossEntropyOptions& options = {});

}  // namespace deepseek::kernels
