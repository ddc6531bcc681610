// One optimiser step: gradients of a batch in packed micro-batches, normalised by the batch's tokens, clipped, applied.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "models/decoder/decoder.h"
#include "models/adapter/tensors.h"
#include "train/adamw.h"
#include "train/indexer_training.h"
#include "train/parallel.h"

namespace deepseek::train {

struct StepOptions {
  int64_t micro_batch_tokens = 4096;  ///< tokens of one forward pass; a longer example goes alone
  bool checkpoint = false;            ///< recompute activations in the backward pass
  double max_grad_norm = 1.0;
  uint64_t dropout_seed = 0;          ///< of this step; 0: none
  IndexerStage stage = IndexerStage::kNone;
};

struct StepResult {
  double loss = 0;           ///< mean over the counted tokens of the whole batch; kWarmup: the indexers'
  double indexer_loss = 0;   ///< nats: mean over all tokens of the batch and all indexers
  double gradient_norm = 0;  ///< before clipping
  int64_t tokens = 0;        ///< all tokens that went through the model
};

/// Every process calls it with the same batch and does its share; all end with the same parameters.
[[nodiscard]] StepResult train_step(models::Decoder& decoder, AdamW& optimizer, const Batch& batch, double learning_rate,
                                    const StepOptions& options, const Parallel& parallel);

/// Losses of examples without training; `progress` is told how many are done and stops the work by returning false
/// (the result is shorter then). The order is that of `examples`.
[[nodiscard]] std::vector<ExampleLoss> example_losses(const models::Decoder& decoder, std::span<const models::TokenizedExample> examples,
                                                      int64_t micro_batch_tokens, const std::function<bool(size_t)>& progress = {});

/// Sum of losses over sum of counted tokens.
[[nodiscard]] double mean_loss(std::span<const ExampleLoss> losses);

/// The adapter's tensors, then the indexers', by their names.
[[nodiscard]] models::NamedTensors trained_tensors(const models::Decoder& decoder);
/// The same as leaves that ask for gradients.
[[nodiscard]] std::vector<at::Tensor> trainable_parameters(models::Decoder& decoder);

}  // namespace deepseek::train
