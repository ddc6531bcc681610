#include "models/prompt.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace deepseek::models {
namespace {

using base::Result;
using Messages = std::vector<formats::ChatMessage>;

nlohmann::ordered_json special_tokens(const formats::Tokenizer& tokenizer) {
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
  if (const auto id = tokenizer.bos_id()) variables["bos_token"] = tokenizer.token(*id);
  if (const auto id = tokenizer.eos_id()) variables["eos_token"] = tokenizer.token(*id);
  return variables;
}

Result<std::string> rendered(const formats::Tokenizer& tokenizer, const formats::ChatTemplate* chat_template, const Messages& messages,
                             bool add_generation_prompt) {
  if (chat_template == nullptr) return plain_chat(messages, add_generation_prompt);
  return chat_template->render(messages, add_generation_prompt, special_tokens(tokenizer));
}

// A template writes its own BOS; the plain form leaves it to the tokenizer.
std::vector<int32_t> encoded(const formats::Tokenizer& tokenizer, const formats::ChatTemplate* chat_template, const std::string& text) {
  auto ids = tokenizer.encode(text, chat_template == nullptr);
  // Some post-processors (BERT's, T5's) end every text with a token that would stand between prompt and answer.
  const auto eos = tokenizer.eos_id();
  if (chat_template == nullptr && eos && !ids.empty() && ids.back() == *eos && !text.ends_with(tokenizer.token(*eos))) ids.pop_back();
  return ids;
}

size_t common_prefix(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

TokenizedExample tokenize_text(const formats::Tokenizer& tokenizer, const std::string& text) {
  TokenizedExample out;
  out.tokens = encoded(tokenizer, nullptr, text);
  if (const auto eos = tokenizer.eos_id()) out.tokens.push_back(*eos);
  out.counts.assign(out.tokens.size(), 1);
  return out;
}

Result<TokenizedExample> tokenize_chat(const formats::Tokenizer& tokenizer, const formats::ChatTemplate* chat_template, const Messages& messages,
                                       LossOn loss_on) {
  TokenizedExample out;
  auto whole = rendered(tokenizer, chat_template, messages, false);
  if (!whole) return base::pass(whole);
  out.tokens = encoded(tokenizer, chat_template, *whole);
  const auto eos = tokenizer.eos_id();
  if (chat_template == nullptr && eos) out.tokens.push_back(*eos);
  out.counts.assign(out.tokens.size(), loss_on == LossOn::kAll ? 1 : 0);
  if (loss_on == LossOn::kAll) return out;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "assistant") continue;
    const bool last = i + 1 == messages.size();
    auto before = rendered(tokenizer, chat_template, {messages.begin(), messages.begin() + static_cast<long>(i)}, true);
    if (!before) {
      if (!last) continue;  // the template wants whole conversations; the last answer is what matters
      return base::pass(before);
    }
    const size_t begin = common_prefix(encoded(tokenizer, chat_template, *before), out.tokens);
    size_t end = out.tokens.size();
    if (!last) {
      auto after = rendered(tokenizer, chat_template, {messages.begin(), messages.begin() + static_cast<long>(i) + 1}, false);
      if (!after) continue;
      end = common_prefix(encoded(tokenizer, chat_template, *after), out.tokens);
      // A template that rewrites earlier turns (drops their reasoning) has no such prefix: that turn carries no loss.
      if (!whole->starts_with(*after)) continue;
    }
    for (size_t t = begin; t < end; ++t) out.counts[t] = 1;
  }
  return out;
}

}  // namespace

std::string plain_chat(const Messages& messages, bool add_generation_prompt) {
  std::string text;
  for (const auto& message : messages) {
    if (!text.empty()) text += '\n';
    if (message.role == "user") {
      text += "Question: " + message.content;
    } else if (message.role == "assistant") {
      text += "Answer: " + message.content;
    } else {
      text += message.content;
    }
  }
  if (add_generation_prompt) text += text.empty() ? "Answer:" : "\nAnswer:";
  return text;
}

Result<TokenizedExample> tokenize_example(const formats::Tokenizer& tokenizer, const formats::ChatTemplate* chat_template,
                                          const formats::Example& example, LossOn loss_on) {
  Result<TokenizedExample> out = example.messages.empty() ? Result<TokenizedExample>(tokenize_text(tokenizer, example.text))
                                                          : tokenize_chat(tokenizer, chat_template, example.messages, loss_on);
  if (!out) return base::within("row " + std::to_string(example.row), out.error());
  if (!out->counts.empty()) out->counts[0] = 0;  // nothing precedes it
  if (out->counted() == 0) return base::fail("row {}: no token is left to learn from", example.row);
  out->row = example.row;
  out->difficulty = example.difficulty.value_or(0);
  return out;
}

Result<std::vector<int32_t>> encode_prompt(const formats::Tokenizer& tokenizer, const formats::ChatTemplate* chat_template,
                                           const Messages& messages) {
  auto text = rendered(tokenizer, chat_template, messages, true);
  if (!text) return base::pass(text);
  return encoded(tokenizer, chat_template, *text);
}

}  // namespace deepseek::models
