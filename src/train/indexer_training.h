// What trains a decoder's indexers: their loss on every sequence that passes through the model, and how much of the attention they find.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "models/decoder/decoder.h"
#include "train/micro_batch.h"

namespace deepseek::train {

/// The two stages of DeepSeek-V3.2-Exp, section 2.1.1. kWarmup: the model is frozen and dense, the indexers learn its attention.
/// kSparse: the model reads what they name and trains on, they learn its attention on those keys.
enum class IndexerStage { kNone, kWarmup, kSparse };
/// "warmup" or "sparse".
[[nodiscard]] base::Result<IndexerStage> indexer_stage_named(const std::string& name);
[[nodiscard]] const char* name_of(IndexerStage stage);

struct ExampleLoss {
  double sum = 0;              ///< of -log p over the counted tokens; of an indexer: of the divergences, mean over the layers
  int64_t counted = 0;         ///< tokens
  double kept = 0, most = 0;   ///< attention on the keys that the indexers put first, and on the best ones; sums over queries that see more keys than that
};

/// Adds the gradients of each sequence's loss / normalizer to the indexers' parameters and the losses to `total`. The decoder must live as long.
[[nodiscard]] models::IndexerWatch indexer_training_watch(const models::Decoder& decoder, double normalizer, double& total);

/// Losses of the indexers against dense attention, without training; `progress` as for example_losses(). recall_of: keys whose mass is measured.
[[nodiscard]] std::vector<ExampleLoss> indexer_losses(const models::Decoder& decoder, std::span<const models::TokenizedExample> examples, int64_t micro_batch_tokens,
                                                      int64_t recall_of, const std::function<bool(size_t)>& progress = {});

/// Layers with an indexer.
[[nodiscard]] int64_t indexer_count(const models::Decoder& decoder);

}  // namespace deepseek::train
