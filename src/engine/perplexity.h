// How well a model predicts given tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/result.h"
#include "engine/language_model.h"

namespace deepseek::engine {

struct Perplexity {
  double mean_loss = 0;    ///< nats a token: mean of -log p
  double perplexity = 1;   ///< exp(mean_loss)
  int64_t tokens = 0;      ///< how many were predicted
};

struct EvaluateOptions {
  int64_t window = 0;                     ///< tokens a pass sees; 0: the model's max_position_embeddings, at most 2048
  int64_t stride = 0;                     ///< tokens between the beginnings of windows; 0: half the window
  int threads = 0;                       ///< of what compares two models; 0: one for each core
  std::function<bool()> stop_requested;   ///< asked between passes; true ends with an error
  std::function<void(int64_t done, int64_t total)> on_progress;  ///< tokens
};

/// Perplexity of one long text with a sliding window: each token is predicted once, from as much context as its window has.
/// With stride == window the first token of each later window has no context and is not counted.
/// Errors: fewer than two tokens, a token outside the vocabulary, a stride above the window, a window above the model's context.
/// Source: Transformers' documentation, "Perplexity of fixed-length models".
[[nodiscard]] base::Result<Perplexity> evaluate_text(LanguageModel& model, const std::vector<int32_t>& ids,
                                                     const EvaluateOptions& options = {});

/// A question and its answer as tokens; counted[i] says that token i is part of the answer (the first token never counts).
struct ScoredSequence {
  std::vector<int32_t> ids;
  std::vector<uint8_t> counted;
};

/// Mean over all counted tokens of all sequences, each sequence seen from its beginning. options.window bounds the tokens that one
/// pass packs together (a longer sequence has a pass of its own); stride is not used.
/// Errors: nothing to count, lengths that disagree, a sequence longer than the model's context.
[[nodiscard]] base::Result<Perplexity> evaluate_answers(LanguageModel& model, const std::vector<ScoredSequence>& sequences,
                                                        const EvaluateOptions& options = {});

}  // namespace deepseek::engine
