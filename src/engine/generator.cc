#include "engine/generator.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "engine/stop_matcher.h"

namespace deepseek::engine {
namespace {

using base::refuse;
using base::Result;
using Clock = std::chrono::steady_clock;

constexpr size_t kPrefillPiece = 512;  // tokens between two questions whether to stop

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

std::vector<int32_t> end_tokens(const models::Decoder& decoder, const formats::Tokenizer& tokenizer, const GenerateOptions& options) {
  if (options.ignore_eos) return {};
  if (!options.eos_ids.empty()) return options.eos_ids;
  const auto& configured = decoder.config().eos_ids;
  if (!configured.empty()) return {configured.begin(), configured.end()};
  const auto eos = tokenizer.eos_id();
  return eos ? std::vector<int32_t>{*eos} : std::vector<int32_t>{};
}

base::Status check_prompt(const models::Decoder& decoder, const std::vector<int32_t>& prompt, int64_t limit) {
  if (prompt.empty()) return refuse("the prompt is empty");
  for (const int32_t id : prompt) {
    if (id < 0 || id >= decoder.config().vocab_size) return base::fail("the prompt holds the token {}, outside the vocabulary of {}", id, decoder.config().vocab_size);
  }
  if (static_cast<int64_t>(prompt.size()) >= limit) return refuse("the prompt has {} tokens, the context holds {}: shorten it", prompt.size(), limit);
  return {};
}

// One answer: what has come, and what may be shown of it.
class Writer {
 public:
  Writer(const formats::Tokenizer& tokenizer, const GenerateOptions& options) : stream_(tokenizer), stops_(options.stop), options_(options) {}
  // False where generation must end.
  bool add(int32_t id) { return show(stops_.push(stream_.push(id))) && !stops_.stopped(); }
  void finish() {
    if (!stops_.stopped()) show(stops_.push(stream_.finish()));
    show(stops_.finish());
  }
  [[nodiscard]] bool stopped() const { return stops_.stopped(); }
  [[nodiscard]] bool interrupted() const { return interrupted_; }
  std::string text;

 private:
  bool show(const std::string& piece) {
    if (piece.empty() || interrupted_) return !interrupted_;
    text += piece;
    if (options_.on_text && !options_.on_text(piece)) interrupted_ = true;
    return !interrupted_;
  }
  formats::StreamDecoder stream_;
  StopMatcher stops_;
  const GenerateOptions& options_;
  bool interrupted_ = false;
};

// Feeds prompt[begin...] in pieces; nothing where it was interrupted.
std::optional<at::Tensor> prefill(const models::Decoder& decoder, const std::vector<int32_t>& prompt, size_t begin, models::KvCache& cache, const GenerateOptions& options) {
  at::Tensor logits;
  for (size_t at = begin; at < prompt.size(); at += kPrefillPiece) {
    if (options.stop_requested && options.stop_requested()) return std::nullopt;
    logits = decoder.step({prompt.begin() + static_cast<long>(at), prompt.begin() + static_cast<long>(std::min(prompt.size(), at + kPrefillPiece))}, cache);
  }
  return logits;
}

Result<Generation> run(const models::Decoder& decoder, const formats::Tokenizer& tokenizer, const std::vector<int32_t>& prompt, size_t reused, models::KvCache& cache,
                       std::vector<int32_t>& cached, const GenerateOptions& options) {
  const int64_t context = decoder.config().max_position_embeddings;
  const int64_t limit = options.context_limit > 0 ? std::min(options.context_limit, context) : context;
  if (auto sound = validate(options); !sound) return base::pass(sound);
  if (auto sound = check_prompt(decoder, prompt, limit); !sound) return base::pass(sound);
  Generation out;
  out.prompt_tokens = static_cast<int64_t>(prompt.size());
  out.reused_tokens = static_cast<int64_t>(reused);
  const auto begin = Clock::now();
  auto logits = prefill(decoder, prompt, reused, cache, options);
  out.prefill_seconds = since(begin);
  cached.assign(prompt.begin(), prompt.begin() + std::min<long>(static_cast<long>(prompt.size()), cache.length()));
  if (!logits) {
    out.finish_reason = FinishReason::kInterrupted;
    return out;
  }
  Sampler sampler(options.sampling, prompt);
  Writer writer(tokenizer, options);
  const auto eos = end_tokens(decoder, tokenizer, options);
  const auto decode_begin = Clock::now();
  const int64_t room = std::min(options.max_new_tokens, limit - static_cast<int64_t>(prompt.size()));
  while (static_cast<int64_t>(out.ids.size()) < room) {
    if (options.stop_requested && options.stop_requested()) {
      out.finish_reason = FinishReason::kInterrupted;
      break;
    }
    at::Tensor row = logits->contiguous().cpu();
    auto id = sampler.next({row.mutable_data_ptr<float>(), static_cast<size_t>(row.numel())});
    if (!id) return base::pass(id);
    out.ids.push_back(*id);
    if (std::find(eos.begin(), eos.end(), *id) != eos.end()) {
      out.finish_reason = FinishReason::kEos;
      break;
    }
    if (!writer.add(*id)) break;
    if (static_cast<int64_t>(out.ids.size()) == room) break;
    logits = decoder.step({*id}, cache);
    cached.push_back(*id);
  }
  writer.finish();
  if (writer.stopped()) out.finish_reason = FinishReason::kStop;
  if (writer.interrupted()) out.finish_reason = FinishReason::kInterrupted;
  out.decode_seconds = since(decode_begin);
  out.text = std::move(writer.text);
  return out;
}

Result<Generation> guarded(const std::function<Result<Generation>()>& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return base::fail("there is not enough memory for this context: shorten the prompt or lower max_new_tokens");
  }
}

}  // namespace

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kEos: return "eos";
    case FinishReason::kInterrupted: return "interrupted";
  }
  return "?";
}

base::Status validate(const GenerateOptions& options) {
  if (options.max_new_tokens < 1) return refuse("max_new_tokens is {}; it must be 1 or more", options.max_new_tokens);
  if (options.context_limit < 0) return refuse("the context limit is {}; it must not be negative", options.context_limit);
  if (auto sound = StopMatcher::validate(options.stop); !sound) return sound;
  return validate(options.sampling);
}

Result<Generation> generate(const models::Decoder& decoder, const formats::Tokenizer& tokenizer, const std::vector<int32_t>& prompt, const GenerateOptions& options) {
  models::KvCache cache;
  std::vector<int32_t> cached;
  return guarded([&] { return run(decoder, tokenizer, prompt, 0, cache, cached, options); });
}

Result<Generation> Chat::reply(const std::vector<int32_t>& prompt, const GenerateOptions& options) {
  // The last token of the prompt is computed anew, for its logits.
  const size_t most = std::min({cached_.size(), static_cast<size_t>(cache_.length()), prompt.empty() ? 0 : prompt.size() - 1});
  size_t common = 0;
  while (common < most && cached_[common] == prompt[common]) ++common;
  cache_.truncate(static_cast<int64_t>(common));
  cached_.resize(common);
  return guarded([&] { return run(*decoder_, *tokenizer_, prompt, common, cache_, cached_, options); });
}

void Chat::reset() {
  cache_ = models::KvCache();
  cached_.clear();
}

}  // namespace deepseek::engine
