// Batches cut into pieces that are computed at one time.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <utility>
#include <vector>

#include "models/packed.h"
#include "models/prompt.h"

namespace deepseek::train {

using Batch = std::vector<const models::TokenizedExample*>;

/// Examples of one forward pass, with the rows of the hidden states that predict counted tokens.
struct MicroBatch {
  models::PackedSequences packed;
  at::Tensor rows, targets;  ///< [n] i64
  std::vector<std::pair<size_t, int64_t>> counted;  ///< example and its count of rows, in the order of the sequences
};
[[nodiscard]] MicroBatch pack(const Batch& examples, std::span<const size_t> chosen);

/// Longest first, so that sequences of like length share a pass and their attention runs as one call.
[[nodiscard]] std::vector<std::vector<size_t>> micro_batches(const Batch& examples, int64_t max_tokens);

}  // namespace deepseek::train
