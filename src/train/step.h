// One optimiser step: gradients of a batch in packed micro-batches, normalised by the batch's tokens, clipped, applied.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "models/decoder/decoder.h"
#include "models/prompt.h"
#include "train/adamw.h"
#include "train/parallel.h"

namespace deepseek::train {

using Batch = std::vector<const models::TokenizedExample*>;

struct StepOptions {
  int64_t micro_batch_tokens = 4096;  ///< tokens of one forward pass; a longer example goes alone
  bool checkpoint = false;            ///< recompute activations in the backward pass
  double max_grad_norm = 1.0;
  uint64_t dropout_seed = 0;          ///< of this step; 0: none
};

struct StepResult {
  double loss = 0;           ///< mean over the counted tokens of the whole batch
  double gradient_norm = 0;  ///< before clipping
  int64_t tokens = 0;        ///< all tokens that went through the model
};

/// Every process calls it with the same batch and does its share; all end with the same parameters.
[[nodiscard]] StepResult train_step(models::Decoder& decoder, AdamW& optimizer, const Batch& batch, double learning_rate,
                                    const StepOptions& options, const Parallel& parallel);

struct ExampleLoss {
  double sum = 0;       ///< of -log p over the counted tokens
  int64_t counted = 0;
};

/// Losses of examples without training; `progress` is told how many are done and stops the work by returning false
/// (the result is shorter then). The order is that of `examples`.
[[nodiscard]] std::vector<ExampleLoss> example_losses(const models::Decoder& decoder, std::span<const models::TokenizedExample> examples,
                                                      int64_t micro_batch_tokens, const std::function<bool(size_t)>& progress = {});

/// Sum of losses over sum of counted tokens.
[[nodiscard]] double mean_loss(std::span<const ExampleLoss> losses);

/// The adapter's parameters as leaves that ask for gradients.
[[nodiscard]] std::vector<at::Tensor> trainable_parameters(models::Decoder& decoder);

}  // namespace deepseek::train
