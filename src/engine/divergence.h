// How far one model's predictions lie from another's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/perplexity.h"

namespace deepseek::engine {

struct Divergence {
  double mean_kl = 0;         ///< nats a token: mean over positions of sum p log(p / q), p the reference's next-token distribution
  double largest_kl = 0;
  double agreement = 0;       ///< share of positions at which both find the same token most probable
  double loss = 0, reference_loss = 0;  ///< mean of -log p of the token that comes next
  int64_t tokens = 0;         ///< positions compared
};

/// Both models read each sequence from its beginning; sequences longer than options.window (0: 512) are cut into pieces. Errors: unlike
/// vocabularies, a token outside them, nothing to compare, logits that are not finite.
[[nodiscard]] base::Result<Divergence> compare_models(LanguageModel& reference, LanguageModel& model, std::span<const std::vector<int32_t>> sequences,
                                                      const EvaluateOptions& options = {});

}  // namespace deepseek::engine
