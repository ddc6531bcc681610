// The next token from logits: penalties, temperature, truncation, and a draw from a seeded generator.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/result.h"

namespace deepseek::engine {

/// The defaults sample from the model's own distribution.
struct SamplingOptions {
  double temperature = 1.0;         ///< 0: greedy, the most probable token, lowest id among equals
  int64_t top_k = 0;                ///< 0: all
  double top_p = 1.0;               ///< 1: all
  double min_p = 0.0;               ///< share of the best token's probability that a token needs; 0: all
  double repetition_penalty = 1.0;  ///< 1: none; counts prompt and generated tokens
  double presence_penalty = 0.0;    ///< subtracted once from tokens generated before
  double frequency_penalty = 0.0;   ///< subtracted for every time a token was generated before
  uint64_t seed = 0;
};

/// One sentence naming the option that is out of range, its value and the range.
[[nodiscard]] base::Status validate(const SamplingOptions& options);

/// How often each token has occurred.
using TokenCounts = std::unordered_map<int32_t, int32_t>;

/// The logits that are sampled from, in place; removed tokens become -infinity. In this order: repetition penalty, presence and
/// frequency penalty, then unless the temperature is 0: temperature, top-k, top-p, min-p.
/// seen: tokens of prompt and output; generated: of the output alone. Tokens beyond logits.size() are ignored.
/// Errors: a NaN or +infinity among the logits, or nothing but -infinity.
/// Sources: Transformers' RepetitionPenaltyLogitsProcessor (Keskar et al. 2019), TemperatureLogitsWarper, TopKLogitsWarper (ties
/// with the k-th stay), TopPLogitsWarper (among equals at the border the higher ids stay), MinPLogitsWarper; the OpenAI API
/// reference for presence and frequency penalty.
[[nodiscard]] base::Status process_logits(std::span<float> logits, const TokenCounts& seen, const TokenCounts& generated,
                                          const SamplingOptions& options);

/// Chooses tokens one after the other. The same options, prompt and logits give the same tokens.
class Sampler {
 public:
  Sampler(const SamplingOptions& options, std::span<const int32_t> prompt);
  /// The next token, which then counts as generated. Changes `logits` as process_logits() does.
  [[nodiscard]] base::Result<int32_t> next(std::span<float> logits);

 private:
  double uniform();
  SamplingOptions options_;
  TokenCounts seen_, generated_;
  uint64_t state_;
};

}  // namespace deepseek::engine
