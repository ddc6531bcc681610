#include "explain/prompt/prompt_game.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/generator.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using Tokens = std::vector<int32_t>;

constexpr size_t kAnswerTokens = 32;  // of which logits are held at once

size_t common_prefix(const Tokens& a, const Tokens& b) { return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin()); }

Result<double> log_probability_of(std::span<const float> logits, int32_t token) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - most);
  const double found = logits[static_cast<size_t>(token)] - most - std::log(sum);
  if (!std::isfinite(found)) return base::fail("the model gave the answer a probability that is no number");
  return found;
}

// The log-probability of `answer` where the sequence holds its first `shared` tokens of `context`; it holds the context then. Counts what it reads.
Result<double> read(engine::Sequence& sequence, const Tokens& context, size_t shared, const Tokens& answer, int64_t& tokens_read) {
  sequence.truncate(static_cast<int64_t>(shared));
  auto logits = sequence.feed(std::span(context).subspan(shared));
  if (!logits) return base::pass(logits);
  tokens_read += static_cast<int64_t>(context.size() - shared + answer.size() - 1);
  auto sum = log_probability_of(*logits, answer.front());
  for (size_t at = 0; sum && at + 1 < answer.size(); at += kAnswerTokens) {
    const size_t count = std::min(kAnswerTokens, answer.size() - 1 - at);
    auto rows = sequence.feed(std::span(answer).subspan(at, count), true);
    if (!rows) return base::pass(rows);
    const size_t vocabulary = rows->size() / count;
    for (size_t i = 0; sum && i < count; ++i) {
      auto one = log_probability_of(rows->subspan(i * vocabulary, vocabulary), answer[at + i + 1]);
      sum = one ? Result<double>(*sum + *one) : one;
    }
  }
  sequence.truncate(static_cast<int64_t>(context.size()));
  return sum;
}

Result<Tokens> encode_context(const models::ModelText& text, const std::string& prompt, const PromptGameOptions& options) {
  if (!options.chat) {
    Tokens tokens = text.tokenizer.encode(prompt);
    if (!tokens.empty()) return tokens;
    const auto first = text.tokenizer.bos_id() ? text.tokenizer.bos_id() : text.tokenizer.eos_id();
    if (!first) return base::fail("{}: the tokenizer has no token that a text begins or ends with, so nothing precedes the answer where all of the prompt is hidden", text.name);
    return Tokens{*first};
  }
  std::vector<formats::ChatMessage> messages;
  if (!options.system.empty()) messages.push_back({"system", options.system});
  messages.push_back({"user", prompt});
  return text.encode_chat(messages, true);
}

// The tokens that the answer is behind the prompt.
Tokens encode_behind(const models::ModelText& text, const std::string& prompt, const std::string& answer, const Tokens& prompt_tokens) {
  const Tokens both = text.tokenizer.encode(prompt + answer);
  if (both.size() > prompt_tokens.size() && common_prefix(both, prompt_tokens) == prompt_tokens.size()) return {both.begin() + static_cast<std::ptrdiff_t>(prompt_tokens.size()), both.end()};
  return text.tokenizer.encode_plain(answer);
}

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

Status check_length(const models::ModelText& text, const PromptAndAnswer& tokens) {
  const int64_t most = text.config.max_position_embeddings, prompt = static_cast<int64_t>(tokens.prompt.size()), answer = static_cast<int64_t>(tokens.answer.size());
  if (prompt + answer > most) return base::refuse("the prompt has {} tokens and the answer {}; the model's context holds {}", prompt, answer, most);
  return {};
}

}  // namespace

PromptGame::PromptGame(engine::LanguageModel& model, const models::ModelText& text, std::string prompt, std::vector<TextPiece> pieces, std::vector<int32_t> answer, PromptGameOptions options)
    : model_(model), text_(text), prompt_(std::move(prompt)), pieces_(std::move(pieces)), answer_(std::move(answer)), options_(std::move(options)) {}

// Between two pieces stays the separator of the most lines, so that what is left keeps its layout; none stays before the first piece.
std::string PromptGame::text_of(std::span<const uint8_t> coalition) const {
  const auto part = [&](size_t begin, size_t end) { return std::string_view(prompt_).substr(begin, end - begin); };
  const auto lines = [](std::string_view spaces) { return std::count(spaces.begin(), spaces.end(), '\n'); };
  std::string text;
  std::string_view hidden_spaces;
  bool hides = false;
  for (size_t i = 0; i < pieces_.size(); ++i) {
    std::string_view spaces = part(pieces_[i].begin, pieces_[i].word);
    if (coalition[i] == 0) {
      if (!hides && !options_.filler.empty()) text.append(spaces).append(options_.filler);
      if (!hides || lines(spaces) > lines(hidden_spaces)) hidden_spaces = spaces;
      hides = true;
      continue;
    }
    if (hides && options_.filler.empty()) spaces = text.empty() ? std::string_view() : lines(hidden_spaces) > lines(spaces) ? hidden_spaces : spaces;
    text.append(spaces).append(part(pieces_[i].word, pieces_[i].end));
    hides = false;
  }
  return text;
}

Result<Tokens> PromptGame::context_of(std::span<const uint8_t> coalition) const { return encode_context(text_, text_of(coalition), options_); }

Status PromptGame::worth(std::span<const uint8_t> coalitions, std::span<double> worth) {
  const size_t n = pieces_.size();
  std::vector<Tokens> contexts(worth.size());
  for (size_t i = 0; i < worth.size(); ++i) {
    auto context = context_of(coalitions.subspan(i * n, n));
    if (!context) return base::pass(context);
    contexts[i] = std::move(*context);
  }
  std::vector<size_t> order(worth.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (options_.keep_prefix) std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return contexts[a] < contexts[b]; });
  const auto sequence = model_.new_sequence();
  const Tokens none, *before = &none;
  double last = 0;
  for (const size_t i : order) {
    if (options_.stop_requested && options_.stop_requested()) return base::fail("interrupted after {} coalitions", asked_);
    const Tokens& context = contexts[i];
    tokens_given_ += static_cast<int64_t>(context.size() + answer_.size() - 1);
    if (!options_.keep_prefix || before->empty() || context != *before) {
      // The last token is always read: its logits are wanted.
      const size_t shared = options_.keep_prefix ? std::min(common_prefix(context, *before), context.size() - 1) : 0;
      auto found = read(*sequence, context, shared, answer_, tokens_read_);
      if (!found) return base::pass(found);
      last = *found;
    }
    worth[i] = last;
    before = &context;
    ++asked_;
    if (options_.on_progress) options_.on_progress(asked_);
  }
  return {};
}

Result<PromptAndAnswer> encode_answer(engine::LanguageModel& model, const models::ModelText& text, const std::string& prompt, const std::string& answer, const PromptGameOptions& options) {
  auto context = encode_context(text, prompt, options);
  if (!context) return base::pass(context);
  PromptAndAnswer found{.prompt = std::move(*context), .answer = {}};
  found.answer = options.chat ? text.tokenizer.encode_plain(answer) : encode_behind(text, prompt, answer, found.prompt);
  if (answer.empty() || found.answer.empty()) return base::refuse("the answer has no tokens");
  if (auto fits = check_length(text, found); !fits) return base::pass(fits);
  if (options.chat || is_space(answer.front()) || is_space(prompt.back())) return found;
  const Tokens spaced = encode_behind(text, prompt, " " + answer, found.prompt);
  const auto sequence = model.new_sequence();
  int64_t tokens = 0;
  auto as_is = read(*sequence, found.prompt, 0, found.answer, tokens);
  if (!as_is) return base::pass(as_is);
  auto with_space = read(*sequence, found.prompt, found.prompt.size() - 1, spaced, tokens);
  if (!with_space) return base::pass(with_space);
  if (*with_space > *as_is) found.answer = spaced;
  if (auto fits = check_length(text, found); !fits) return base::pass(fits);
  return found;
}

Result<PromptAndAnswer> find_answer(engine::LanguageModel& model, const models::ModelText& text, const std::string& prompt, int64_t most, const PromptGameOptions& options) {
  auto context = encode_context(text, prompt, options);
  if (!context) return base::pass(context);
  engine::GenerateOptions generate{.max_new_tokens = most, .sampling = {.temperature = 0}, .eos_ids = text.generation.eos_ids};
  generate.stop_requested = options.stop_requested;
  bool has_text = false, line_ended = false;
  if (!options.chat || !text.chat_template) {
    generate.on_text = [&](std::string_view piece) {
      for (const char c : piece) {
        line_ended = line_ended || (has_text && c == '\n');
        has_text = has_text || !is_space(c);
      }
      return !line_ended;
    };
  }
  auto generation = engine::generate(model, text.tokenizer, *context, generate);
  if (!generation) return base::pass(generation);
  if (generation->finish_reason == engine::FinishReason::kInterrupted && !line_ended) return base::fail("interrupted before the answer was there");
  Tokens answer = std::move(generation->ids);
  const auto ends = [&](int32_t id) {
    const auto& eos = text.generation.eos_ids;
    if (text.tokenizer.is_special(id) || std::find(eos.begin(), eos.end(), id) != eos.end()) return true;
    const std::string shown = text.tokenizer.decode({id});
    return !shown.empty() && std::all_of(shown.begin(), shown.end(), is_space);
  };
  while (!answer.empty() && ends(answer.back())) answer.pop_back();
  if (answer.empty()) return base::fail("the model answers nothing; give the answer whose reasons are wanted");
  PromptAndAnswer found{.prompt = std::move(*context), .answer = std::move(answer)};
  if (auto fits = check_length(text, found); !fits) return base::pass(fits);
  return found;
}

}  // namespace deepseek::explain
