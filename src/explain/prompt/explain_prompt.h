// Which part of the prompt drove the answer of a language model.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "engine/language_model.h"
#include "models/text.h"

namespace deepseek::explain {

struct PromptOptions {
  std::string model;                  ///< name, directory or .gguf
  std::string prompt;
  std::optional<std::string> answer;  ///< nothing: what the model answers itself, greedily
  int64_t answer_tokens = 32;         ///< most tokens of an answer that is found
  bool chat = false;                  ///< by the model's chat template; else the model goes on where the prompt ends
  std::string system;                 ///< with chat: a system message, always there
  std::string filler;                 ///< stands for what is hidden; "": it is taken out
  int64_t budget = 0;                 ///< coalitions; 0: eight for each word and 256 at least; from 65 words on 512, and words are opened where they matter
  double precision = 0, confidence = 0.95;  ///< as EstimateOptions has them; precision in log-probability
  int64_t pairs = 10;
  uint64_t seed = 0;
  int threads = 0;                    ///< for a model that is opened; 0: all
  std::function<void(int64_t asked, int64_t budget)> on_progress;  ///< coalitions
  std::function<bool()> stop_requested;                            ///< true ends it with an error
};

/// The explanation document (report/document.h) of one answer: words, sentences and paragraphs of the prompt, and what each adds to the log-probability of the whole
/// answer; the base is the log-probability of the answer without any of the prompt. Errors: an empty prompt, an answer without tokens, more tokens than the model's context holds,
/// a model that cannot be opened.
[[nodiscard]] base::Result<nlohmann::ordered_json> explain_prompt(const PromptOptions& options);
/// Of a model that is open: `options.model` is its name only.
[[nodiscard]] base::Result<nlohmann::ordered_json> explain_prompt(engine::LanguageModel& model, const models::ModelText& text, const PromptOptions& options);

}  // namespace deepseek::explain
