// A prompt and its answer as a game: the players are pieces of the prompt, a coalition is worth the log-probability of the answer after these pieces alone.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/language_model.h"
#include "explain/game.h"
#include "explain/prompt/prompt_tree.h"
#include "models/text.h"

namespace deepseek::explain {

struct PromptGameOptions {
  bool chat = false;     ///< the prompt is a user's message in the model's chat template, whose own tokens stay whatever is hidden
  std::string system;    ///< with chat: a system message, which stays too
  std::string filler;    ///< stands for every run of hidden pieces; "": they are taken out, and of the line breaks around them the most stay
  bool keep_prefix = true;  ///< false: every coalition is read from its beginning
  std::function<void(int64_t asked)> on_progress;  ///< coalitions so far
  std::function<bool()> stop_requested;            ///< true ends it with an error
};

class PromptGame : public Game {
 public:
  /// All must outlive the game. pieces: of `prompt`, as prompt_tree() gives them. answer: tokens, one at least.
  PromptGame(engine::LanguageModel& model, const models::ModelText& text, std::string prompt, std::vector<TextPiece> pieces, std::vector<int32_t> answer, PromptGameOptions options = {});

  [[nodiscard]] int64_t players() const override { return static_cast<int64_t>(pieces_.size()); }
  /// Coalitions are read in the order of their tokens, so that what two of them begin with is read once. Errors: the model's, an interruption.
  [[nodiscard]] base::Status worth(std::span<const uint8_t> coalitions, std::span<double> worth) override;

  /// What the model reads before the answer. Where all is hidden and the tokenizer has no BOS, the end token stands there: something must.
  [[nodiscard]] base::Result<std::vector<int32_t>> context_of(std::span<const uint8_t> coalition) const;

  [[nodiscard]] int64_t tokens_given() const { return tokens_given_; }  ///< of all coalitions, answers included
  [[nodiscard]] int64_t tokens_read() const { return tokens_read_; }    ///< of these, what was computed

 private:
  [[nodiscard]] std::string text_of(std::span<const uint8_t> coalition) const;

  engine::LanguageModel& model_;
  const models::ModelText& text_;
  std::string prompt_;
  std::vector<TextPiece> pieces_;
  std::vector<int32_t> answer_;
  PromptGameOptions options_;
  int64_t asked_ = 0, tokens_given_ = 0, tokens_read_ = 0;
};

/// Tokens of a whole prompt as the game has it, and of what a user says the answer is: after a template as it stands, else as it is tokenised behind the prompt; where
/// neither prompt nor answer has a space between them, with one if the model finds that likelier. Errors: the tokens of the answer are none, prompt and answer
/// are longer than the model's context.
struct PromptAndAnswer {
  std::vector<int32_t> prompt, answer;
};
[[nodiscard]] base::Result<PromptAndAnswer> encode_answer(engine::LanguageModel& model, const models::ModelText& text, const std::string& prompt, const std::string& answer,
                                                          const PromptGameOptions& options);
/// The answer that the model finds itself, greedily, of at most `most` tokens and without the end token; without a template it ends with its first line.
[[nodiscard]] base::Result<PromptAndAnswer> find_answer(engine::LanguageModel& model, const models::ModelText& text, const std::string& prompt, int64_t most, const PromptGameOptions& options);

}  // namespace deepseek::explain
