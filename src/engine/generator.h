// Text from a model: prefill, then one token after the other, streamed as whole UTF-8; and a chat that keeps its cache.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/language_model.h"
#include "engine/sampler.h"
#include "engine/speculation.h"
#include "formats/tokenizer/tokenizer.h"

namespace deepseek::engine {

struct GenerateOptions {
  int64_t max_new_tokens = 256;
  SamplingOptions sampling;
  std::vector<std::string> stop;   ///< generation ends where one of them appears; it is not part of the text
  std::vector<int32_t> eos_ids;    ///< end tokens; empty: those of the model's configuration, else the tokenizer's
  bool ignore_eos = false;         ///< end tokens are tokens like others
  int64_t context_limit = 0;       ///< most tokens, prompt included; 0: the model's max_position_embeddings
  Drafter* drafter = nullptr;      ///< guesses tokens (speculation.h); the text is drawn as without it
  std::function<bool(std::string_view)> on_text;  ///< each new piece of text, never empty; false interrupts
  std::function<void(int64_t done, int64_t total)> on_prompt;  ///< tokens of the prompt that were read, after each piece of it
  std::function<bool()> stop_requested;           ///< asked between tokens and between pieces of a long prompt; true interrupts
};

enum class FinishReason {
  kStop,         ///< a stop string
  kLength,       ///< max_new_tokens, or the context is full
  kEos,          ///< an end token
  kInterrupted,  ///< on_text or stop_requested said so
};
/// "stop", "length", "eos", "interrupted".
[[nodiscard]] const char* finish_reason_name(FinishReason reason);

struct Generation {
  std::vector<int32_t> ids;  ///< every new token, an end token and those of a stop string included
  std::string text;          ///< what on_text was given, in one piece
  FinishReason finish_reason = FinishReason::kLength;
  int64_t prompt_tokens = 0;
  int64_t passes = 0;         ///< of the model after the prompt: as many as ids without a drafter
  int64_t reused_tokens = 0;  ///< of prompt_tokens: already in the cache
  double prefill_seconds = 0, decode_seconds = 0;
};

/// One sentence naming what cannot be: no room for a token, a stop string that is empty, sampling out of range.
[[nodiscard]] base::Status validate(const GenerateOptions& options);

/// Continues `prompt`. Errors: an empty prompt, a token outside the vocabulary, a prompt that fills the context, options out of
/// range, NaN logits, memory that cannot be had.
[[nodiscard]] base::Result<Generation> generate(LanguageModel& model, const formats::Tokenizer& tokenizer,
                                                const std::vector<int32_t>& prompt, const GenerateOptions& options = {});

/// A conversation: each turn's prompt is the whole conversation so far, and what the cache already has of it is not computed again.
class Chat {
 public:
  /// Both must outlive the chat.
  Chat(LanguageModel& model, const formats::Tokenizer& tokenizer) : model_(&model), tokenizer_(&tokenizer), sequence_(model.new_sequence()) {}
  /// As generate(); after an error or an interruption the chat can go on.
  [[nodiscard]] base::Result<Generation> reply(const std::vector<int32_t>& prompt, const GenerateOptions& options = {});
  /// Tokens whose keys and values are kept.
  [[nodiscard]] int64_t cached_tokens() const { return sequence_->length(); }
  /// Forgets everything and gives the memory back.
  void reset();

 private:
  base::Result<std::span<float>> prefill(const std::vector<int32_t>& prompt, const GenerateOptions& options);
  base::Status decode(std::span<float> logits, int64_t most, Sampler& sampler, const GenerateOptions& options, Generation& generation);
  base::Result<std::span<float>> next(int32_t id, int64_t room, const GenerateOptions& options, Generation& generation);
  LanguageModel* model_;
  const formats::Tokenizer* tokenizer_;
  std::unique_ptr<Sequence> sequence_;
  std::vector<int32_t> cached_;  // the tokens that the cache holds and that were said
  std::vector<int32_t> drafts_;  // guesses that the cache holds after them
  DraftLength draft_length_;
};

}  // namespace deepseek::engine
