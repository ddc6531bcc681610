// Guesses of the tokens that come next, which the model then checks all at once. What a model says does not change: each token is
// drawn from its own distribution, and a guess only saves the pass where it was right.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/language_model.h"

namespace deepseek::engine {

class Drafter {
 public:
  virtual ~Drafter() = default;
  /// At most `most` tokens that may follow `history` (prompt and answer so far). Empty: no idea. Errors: a draft model that fails.
  [[nodiscard]] virtual base::Result<std::vector<int32_t>> propose(std::span<const int32_t> history, int64_t most) = 0;
};

/// What followed the last place where the last three tokens stood (two where three are nowhere). Source: prompt lookup decoding
/// (Saxena 2023).
[[nodiscard]] std::unique_ptr<Drafter> ngram_drafter();

/// The most probable tokens of a smaller model with the same vocabulary, which must outlive the drafter. Source: Leviathan et al. 2023,
/// with a draft that is certain of its tokens.
[[nodiscard]] std::unique_ptr<Drafter> model_drafter(LanguageModel& model);

/// How many tokens to guess: more while guesses are right, fewer while they are wrong.
class DraftLength {
 public:
  static constexpr int64_t kMost = 11;  // 12 tokens are one group of the kernels
  [[nodiscard]] int64_t get() const { return wait_ > 0 ? 0 : length_; }
  void tell(int64_t proposed, int64_t accepted);

 private:
  int64_t length_ = 3, misses_ = 0, wait_ = 0;
};

}  // namespace deepseek::engine
