#include "train/data.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace deepseek::train {
namespace {

using base::fail;
using base::refuse;
using base::Result;
using models::TokenizedExample;

constexpr int64_t kTextPiece = 512;

uint64_t mixed(uint64_t x) {
  x ^= x >> 33;
  x *= 0xFF51AFD7ED558CCDu;
  return x ^ (x >> 33);
}

// Raw text in pieces that begin where the one before ended; each but the first sees one token of it, to predict its own first.
void append_pieces(const TokenizedExample& text, int64_t piece, std::vector<TokenizedExample>& out) {
  const auto size = static_cast<int64_t>(text.tokens.size());
  for (int64_t at = 0; at + 1 < size; at += piece - 1) {
    const int64_t end = std::min(size, at + piece);
    TokenizedExample part = text;
    part.tokens.assign(text.tokens.begin() + at, text.tokens.begin() + end);
    part.counts.assign(text.counts.begin() + at, text.counts.begin() + end);
    part.counts[0] = 0;
    out.push_back(std::move(part));
    if (end == size) break;
  }
}

base::Status append(const formats::Example& example, const formats::Tokenizer& tokenizer, const formats::ChatTemplate* chat_template,
                    int64_t context, const DataOptions& options, std::vector<TokenizedExample>& out) {
  auto tokenized = models::tokenize_example(tokenizer, chat_template, example, options.loss_on);
  if (!tokenized) return base::pass(tokenized);
  for (const int32_t token : tokenized->tokens) {
    if (options.vocabulary > 0 && token >= options.vocabulary) {
      return refuse("row {} holds {}, which the model's embedding of {} tokens does not reach; take it out of the row", example.row,
                    tokenizer.token(token), options.vocabulary);
    }
  }
  if (example.messages.empty()) {
    append_pieces(*tokenized, options.context > 1 ? context : std::min(context, kTextPiece), out);
    return {};
  }
  const auto size = static_cast<int64_t>(tokenized->tokens.size());
  if (size > context) {
    return refuse("row {} has {} tokens, more than the context of {}: shorten it{}", example.row, size, context,
                  options.context > 0 ? " or raise --context" : ", or use a model with a longer context");
  }
  out.push_back(std::move(*tokenized));
  return {};
}

// Rows in their order, as many as a window takes; what counts in each still counts.
void join_rows(std::vector<TokenizedExample>& rows, int64_t window) {
  std::vector<TokenizedExample> out;
  for (auto& row : rows) {
    if (out.empty() || static_cast<int64_t>(out.back().tokens.size() + row.tokens.size()) > window) {
      out.push_back(std::move(row));
      continue;
    }
    TokenizedExample& last = out.back();
    last.tokens.insert(last.tokens.end(), row.tokens.begin(), row.tokens.end());
    last.counts.insert(last.counts.end(), row.counts.begin(), row.counts.end());
  }
  rows = std::move(out);
}

// The rows to hold out where the dataset names none: by lot, at least one.
std::vector<bool> drawn(size_t count, double share, uint64_t seed) {
  std::vector<bool> held(count, false);
  if (share <= 0 || count < 2) return held;
  const size_t wanted = std::clamp<size_t>(static_cast<size_t>(std::llround(share * static_cast<double>(count))), 1, count - 1);
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return mixed(a * 2 + 1 + seed * 1000003) < mixed(b * 2 + 1 + seed * 1000003); });
  for (size_t i = 0; i < wanted; ++i) held[order[i]] = true;
  return held;
}

uint64_t hash_of(const TrainingData& data) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const auto* part : {&data.train, &data.validation}) {
    for (const auto& example : *part) {
      for (const int32_t token : example.tokens) hash = (hash ^ static_cast<uint32_t>(token)) * 0x100000001B3u;
      for (const auto count : example.counts) hash = (hash ^ static_cast<uint64_t>(count)) * 0x100000001B3u;
      hash = mixed(hash + example.tokens.size());
    }
  }
  return hash;
}

}  // namespace

Result<TrainingData> prepare_data(const formats::Dataset& dataset, const formats::Tokenizer& tokenizer, const formats::ChatTemplate* chat_template,
                                  int64_t max_positions, const DataOptions& options) {
  if (options.context < 0 || options.context == 1) return refuse("a context of {} holds no example; use 0 for the model's own, or 2 and more", options.context);
  if (options.context > max_positions) return refuse("a context of {} is more than the model's {} positions", options.context, max_positions);
  if (!(options.validation_share >= 0 && options.validation_share < 1)) return refuse("a validation share of {} is not in [0, 1)", options.validation_share);
  const int64_t context = options.context > 0 ? options.context : max_positions;
  TrainingData data;
  std::vector<const formats::Example*> trained, held;
  for (const auto& example : dataset.examples) {
    if (example.split == "validation") {
      held.push_back(&example);
    } else if (example.split == "test") {
      ++data.test_rows;
    } else {
      trained.push_back(&example);
    }
  }
  if (held.empty()) {
    const auto marks = drawn(trained.size(), options.validation_share, options.seed);
    std::vector<const formats::Example*> kept;
    for (size_t i = 0; i < trained.size(); ++i) (marks[i] ? held : kept).push_back(trained[i]);
    trained = std::move(kept);
  }
  if (trained.empty()) return fail("the dataset has no rows to train on ({} for validation, {} for test)", held.size(), data.test_rows);
  data.has_difficulty = std::all_of(trained.begin(), trained.end(), [](const auto* example) { return example->difficulty.has_value(); });
  for (const auto* example : trained) {
    if (auto done = append(*example, tokenizer, chat_template, context, options, data.train); !done) return base::pass(done);
  }
  for (const auto* example : held) {
    if (auto done = append(*example, tokenizer, chat_template, context, options, data.validation); !done) return base::pass(done);
    data.held_out.push_back(*example);
  }
  if (data.train.empty()) return fail("the dataset's training rows are empty texts");
  if (options.join) {
    join_rows(data.train, context);
    join_rows(data.validation, context);
    data.has_difficulty = false;
  }
  for (const auto* part : {&data.train, &data.validation}) {
    for (const auto& example : *part) data.longest = std::max(data.longest, static_cast<int64_t>(example.tokens.size()));
  }
  data.hash = hash_of(data);
  return data;
}

}  // namespace deepseek::train
