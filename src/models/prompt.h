// One place that turns messages into tokens, so that training, evaluation and generation see the same text.
#pragma once

#include <algorithm>
#include <vector>

#include "formats/dataset/dataset.h"
#include "formats/chat_template/chat_template.h"
#include "formats/tokenizer/tokenizer.h"

namespace deepseek::models {

/// The text that a model without a chat template gets. A question is "Question: ...\nAnswer:", the answer follows after a space.
[[nodiscard]] std::string plain_chat(const std::vector<formats::ChatMessage>& messages, bool add_generation_prompt);

struct TokenizedExample {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> counts;  ///< as long as tokens: 1 where the token is part of the loss; the first token never is
  double difficulty = 0;
  size_t row = 0;               ///< row of the dataset, counted from 1

  [[nodiscard]] int64_t counted() const { return std::count(counts.begin(), counts.end(), 1); }
};

enum class LossOn { kAnswer, kAll };

/// Tokens of one record. kAnswer: every answer of the assistant counts, with the token that ends it; raw text counts whole.
/// Errors: the template refuses the messages, an answer that leaves no token.
[[nodiscard]] base::Result<TokenizedExample> tokenize_example(const formats::Tokenizer& tokenizer,
                                                              const formats::ChatTemplate* chat_template,
                                                              const formats::Example& example, LossOn loss_on);

/// Tokens of a prompt that asks for the next answer: what precedes the answer in tokenize_example().
[[nodiscard]] base::Result<std::vector<int32_t>> encode_prompt(const formats::Tokenizer& tokenizer,
                                                               const formats::ChatTemplate* chat_template,
                                                               const std::vector<formats::ChatMessage>& messages);

}  // namespace deepseek::models
