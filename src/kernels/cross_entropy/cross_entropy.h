// Cross-entropy of a language model's output head without ever holding all logits, and with a gradient that skips
// the vocabulary that cannot matter.
#pragma once

#include <ATen/core/Tensor.h>

namespace deepseek::kernels {

// What memory_plan.cc counts.
constexpr int64_t kLossRows = 512;           // rows for which the head is read once
constexpr int64_t kLossGatherWords = 16384;  // rows of the head that are copied for one product

struct CrossEntropyOptions {
  double softcap = 0.0;      ///< Gemma 2: logits become softcap * tanh(logits / softcap); 0: none
  float min_probability = -1;  ///< words less probable than this in all of 128 rows carry no gradient; 0: all do; < 0: by type
};

struct CrossEntropyResult {
  at::Tensor losses;          ///< [n] f32: -log p(target)
  at::Tensor hidden_gradient; ///< [n, hidden], type of hidden: d(sum of weighted losses)/d(hidden); undefined unless asked for
  double share_of_vocabulary = 0;  ///< mean share of the head's rows that took part in the gradient
};

/// hidden: [n, hidden] f32|bf16; head: [vocab, hidden] of the same type; targets: [n] i64; weights: [n] f32 or undefined (ones).
/// With `gradient`, also the gradient of sum(weights * losses). The default min_probability is 1e-5 for bf16 (whose rounding of
/// each p is 4e-3 p) and 1e-9 for f32; where that would leave out more than 5% of a row's probability, its 128 rows use all words.
/// No more than 2,048 words' logits exist at a time, and those of the selected words. Source of the filter: Cut Cross-Entropy
/// (Wijmans et al. 2024), here by word instead of by block. Throws c10::Error where shapes or types disagree or a target is outside the vocabulary.
CrossEntropyResult linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                                        const at::Tensor& weights, bool gradient, const CrossEntropyOptions& options = {});

}  // namespace deepseek::kernels
