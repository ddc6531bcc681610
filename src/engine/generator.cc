#include "engine/generator.h"

#include <algorithm>
#include <chrono>

#include "engine/stop_matcher.h"

namespace deepseek::engine {
namespace {

using Clock = std::chrono::steady_clock;

// Long prompts are computed in pieces: scores of attention stay bounded, and an interruption is heard.
constexpr size_t kPrefillTokens = 512;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

base::Result<int64_t> context_limit(const models::DecoderConfig& config, const GenerateOptions& options, size_t prompt) {
  const int64_t most = config.max_position_embeddings, limit = options.context_limit > 0 ? options.context_limit : most;
  if (limit > most) return base::refuse("the context limit is {} tokens, but the model was made for {}", limit, most);
  if (static_cast<int64_t>(prompt) >= limit) {
    return base::refuse("the prompt has {} tokens and the context holds {}: shorten the prompt by at least {}", prompt, limit,
                        static_cast<int64_t>(prompt) - limit + 1);
  }
  return limit;
}

base::Status check_prompt(const std::vector<int32_t>& prompt, int64_t vocabulary) {
  if (prompt.empty()) return base::refuse("the prompt is empty; give at least one token");
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] < 0 || prompt[i] >= vocabulary) {
      return base::refuse("token {} of the prompt is {}, outside the vocabulary of {}: the tokenizer is another model's", i,
                          prompt[i], vocabulary);
    }
  }
  return {};
}

std::vector<int32_t> end_tokens(const models::DecoderConfig& config, const formats::Tokenizer& tokenizer, const GenerateOptions& options) {
  if (options.ignore_eos) return {};
  if (!options.eos_ids.empty()) return options.eos_ids;
  const auto& configured = config.eos_ids;
  if (!configured.empty()) return {configured.begin(), configured.end()};
  if (const auto id = tokenizer.eos_id()) return {*id};
  return {};
}

// Tokens on their way to the reader: ids -> whole characters -> without stop strings -> on_text.
class TextStream {
 public:
  TextStream(const formats::Tokenizer& tokenizer, const GenerateOptions& options)
      : options_(options), characters_(tokenizer), stops_(options.stop) {}
  void push(int32_t id) { show(stops_.push(characters_.push(id))); }
  void finish() {
    show(stops_.push(characters_.finish()));
    show(stops_.finish());
  }
  [[nodiscard]] bool stopped() const { return stops_.stopped(); }
  [[nodiscard]] bool interrupted() const { return interrupted_; }
  [[nodiscard]] std::string text() const { return text_; }

 private:
  void show(const std::string& piece) {
    if (piece.empty() || interrupted_) return;
    text_ += piece;
    if (options_.on_text && !options_.on_text(piece)) interrupted_ = true;
  }
  const GenerateOptions& options_;
  formats::StreamDecoder characters_;
  StopMatcher stops_;
  std::string text_;
  bool interrupted_ = false;
};

bool asked_to_stop(const GenerateOptions& options) { return options.stop_requested && options.stop_requested(); }

bool contains(const std::vector<int32_t>& ids, int32_t id) { return std::find(ids.begin(), ids.end(), id) != ids.end(); }

}  // namespace

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kEos: return "eos";
    case FinishReason::kInterrupted: return "interrupted";
  }
  return "";
}

base::Status validate(const GenerateOptions& options) {
  if (options.max_new_tokens < 1) return base::refuse("max_new_tokens is {}; it must be at least 1", options.max_new_tokens);
  if (options.context_limit < 0) return base::refuse("the context limit is {}; it must be 0 (the model's) or more", options.context_limit);
  if (auto ok = StopMatcher::validate(options.stop); !ok) return ok;
  return validate(options.sampling);
}

base::Result<Generation> generate(LanguageModel& model, const formats::Tokenizer& tokenizer, const std::vector<int32_t>& prompt,
                                  const GenerateOptions& options) {
  return Chat(model, tokenizer).reply(prompt, options);
}

void Chat::reset() {
  sequence_->truncate(0);
  cached_.clear();
}

// Feeds the part of the prompt that the cache lacks. Nothing: interrupted.
base::Result<std::span<float>> Chat::prefill(const std::vector<int32_t>& prompt, const GenerateOptions& options) {
  std::span<float> logits;
  for (size_t at = cached_.size(); at < prompt.size();) {
    if (asked_to_stop(options)) return std::span<float>();
    const size_t end = std::min(prompt.size(), at + kPrefillTokens);
    const std::span<const int32_t> piece(prompt.data() + at, end - at);
    auto result = sequence_->feed(piece);
    if (!result) return result;
    cached_.insert(cached_.end(), piece.begin(), piece.end());
    logits = *result;
    at = end;
    if (options.on_prompt) options.on_prompt(static_cast<int64_t>(end), static_cast<int64_t>(prompt.size()));
  }
  return logits;
}

// Feeds a token that was drawn, and guesses of what follows it. Returns the logits after each.
base::Result<std::span<float>> Chat::next(int32_t id, int64_t room, const GenerateOptions& options, Generation& generation) {
  sequence_->truncate(static_cast<int64_t>(cached_.size()));  // guesses that were wrong
  drafts_.clear();
  const int64_t guesses = options.drafter != nullptr ? std::min(draft_length_.get(), room) : 0;
  cached_.push_back(id);
  const auto feed = [&]() -> base::Result<std::span<float>> {
    if (guesses > 0) {
      auto proposed = options.drafter->propose(cached_, guesses);
      if (!proposed) return base::pass(proposed);
      drafts_ = std::move(*proposed);
    }
    if (drafts_.empty()) return sequence_->feed({&id, 1});
    std::vector<int32_t> tokens{id};
    tokens.insert(tokens.end(), drafts_.begin(), drafts_.end());
    return sequence_->feed(tokens, true);
  };
  auto logits = feed();
  if (!logits) cached_.pop_back();
  ++generation.passes;
  return logits;
}

// One token after the other from the logits after the prompt, until something ends it.
base::Status Chat::decode(std::span<float> logits, int64_t most, Sampler& sampler, const GenerateOptions& options, Generation& generation) {
  const auto ends = end_tokens(model_->config(), *tokenizer_, options);
  const auto vocabulary = static_cast<size_t>(model_->config().vocab_size);
  TextStream stream(*tokenizer_, options);
  const auto finish = [&](FinishReason reason) -> base::Status {
    sequence_->truncate(static_cast<int64_t>(cached_.size()));
    if (reason != FinishReason::kInterrupted) stream.finish();
    generation.text = stream.text();
    generation.finish_reason = stream.stopped() ? FinishReason::kStop : stream.interrupted() ? FinishReason::kInterrupted : reason;
    return {};
  };
  drafts_.clear();
  for (size_t row = 0;;) {
    const auto id = sampler.next(logits.subspan(row * vocabulary, vocabulary));
    if (!id) return tl::make_unexpected(id.error());
    generation.ids.push_back(*id);
    if (contains(ends, *id)) return finish(FinishReason::kEos);
    stream.push(*id);
    if (stream.stopped() || stream.interrupted()) return finish(FinishReason::kInterrupted);
    if (static_cast<int64_t>(generation.ids.size()) >= most) return finish(FinishReason::kLength);
    if (asked_to_stop(options)) return finish(FinishReason::kInterrupted);
    if (row < drafts_.size() && *id == drafts_[row]) {  // guessed: its logits are here already
      cached_.push_back(*id);
      ++row;
      continue;
    }
    draft_length_.tell(static_cast<int64_t>(drafts_.size()), static_cast<int64_t>(row));
    const int64_t room = most - static_cast<int64_t>(generation.ids.size()) - 1;
    auto fed = next(*id, room, options, generation);
    if (!fed) return base::pass(fed);
    logits = *fed;
    row = 0;
  }
}

base::Result<Generation> Chat::reply(const std::vector<int32_t>& prompt, const GenerateOptions& options) {
  if (auto ok = validate(options); !ok) return base::pass(ok);
  if (auto ok = check_prompt(prompt, model_->config().vocab_size); !ok) return base::pass(ok);
  auto limit = context_limit(model_->config(), options, prompt.size());
  if (!limit) return base::pass(limit);

  Generation generation;
  const auto [mine, theirs] = std::mismatch(cached_.begin(), cached_.end(), prompt.begin(), prompt.end());
  // The last token of the prompt is always fed: its logits are needed.
  cached_.resize(std::min<size_t>(static_cast<size_t>(mine - cached_.begin()), prompt.size() - 1));
  sequence_->truncate(static_cast<int64_t>(cached_.size()));
  generation.prompt_tokens = static_cast<int64_t>(prompt.size());
  generation.reused_tokens = static_cast<int64_t>(cached_.size());

  auto start = Clock::now();
  auto logits = prefill(prompt, options);
  if (!logits) return base::pass(logits);
  generation.prefill_seconds = seconds_since(start);
  if (logits->empty()) {
    generation.finish_reason = FinishReason::kInterrupted;
    return generation;
  }
  start = Clock::now();
  Sampler sampler(options.sampling, prompt);
  const int64_t most = std::min(options.max_new_tokens, *limit - generation.prompt_tokens);
  if (auto ok = decode(*logits, most, sampler, options, generation); !ok) return base::pass(ok);
  generation.decode_seconds = seconds_since(start);
  return generation;
}

}  // namespace deepseek::engine
