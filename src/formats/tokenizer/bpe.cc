#include "formats/tokenizer/bpe.h"

#include <algorithm>
#include <array>
#include <optional>
#include <queue>
#include <tuple>

#include "formats/tokenizer/unicode.h"

namespace deepseek::formats {
namespace {

using base::fail;
using base::Result;

struct BpeOptions {
  int32_t unknown = -1;
  bool fuse_unknown = false, byte_fallback = false, ignore_merges = false;
  std::string continuing_prefix, end_suffix;
};

// The order in which merges apply: lower first. By list only `rank` counts; by scores the rest breaks ties as Transformers does.
using Rank = std::tuple<float, int32_t, int32_t, int32_t, int32_t>;
struct Merge {
  Rank rank;
  int32_t id;
};

struct Symbol {
  int32_t id;
  int32_t previous, next;  // -1: none
  bool alive = true;
};

struct Candidate {
  Rank rank;
  int32_t at;
  int32_t id;
  bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
};

class Bpe : public TokenModel {
 public:
  Bpe(Vocabulary vocabulary, BpeOptions options) : TokenModel(std::move(vocabulary)), options_(std::move(options)) {
    for (int byte = 0; byte < 256; ++byte) byte_ids_[static_cast<size_t>(byte)] = vocabulary_.find(byte_token(static_cast<unsigned char>(byte)));
  }

  void encode(std::string_view piece, std::vector<int32_t>& ids) const override {
    if (piece.empty()) return;
    if (options_.ignore_merges) {
      if (const int32_t id = vocabulary_.find(piece); id >= 0) {
        ids.push_back(id);
        return;
      }
    }
    std::vector<Symbol> symbols = characters(piece);
    merge(symbols);
    for (const auto& symbol : symbols) {
      if (symbol.alive) ids.push_back(symbol.id);
    }
  }

 protected:
  [[nodiscard]] virtual std::optional<Merge> find_merge(int32_t left, int32_t right) const = 0;

 private:
  [[nodiscard]] std::vector<Symbol> characters(std::string_view piece) const {
    std::vector<Symbol> symbols;
    symbols.reserve(piece.size());
    bool unknown_before = false;
    const auto push = [&](int32_t id) {
      const auto at = static_cast<int32_t>(symbols.size());
      if (at > 0) symbols.back().next = at;
      symbols.push_back({id, at - 1, -1});
    };
    for (size_t begin = 0; begin < piece.size();) {
      const size_t end = std::min(piece.size(), begin + utf8_length(piece[begin]));
      const std::string_view raw = piece.substr(begin, end - begin);
      int32_t id = -1;
      std::string spelled;
      if (options_.continuing_prefix.empty() && options_.end_suffix.empty()) {
        id = vocabulary_.find(raw);
      } else {
        spelled = (begin > 0 ? options_.continuing_prefix : "") + std::string(raw) + (end == piece.size() ? options_.end_suffix : "");
        id = vocabulary_.find(spelled);
      }
      begin = end;
      if (id >= 0) {
        push(id);
        unknown_before = false;
        continue;
      }
      if (options_.byte_fallback && push_bytes(spelled.empty() ? raw : spelled, push)) {
        unknown_before = false;
        continue;
      }
      if (options_.unknown >= 0 && !(options_.fuse_unknown && unknown_before)) push(options_.unknown);
      unknown_before = true;
    }
    return symbols;
  }

  template <typename Push>
  bool push_bytes(std::string_view text, Push push) const {
    if (std::any_of(text.begin(), text.end(), [&](char c) { return byte_ids_[static_cast<unsigned char>(c)] < 0; })) return false;
    for (const char c : text) push(byte_ids_[static_cast<unsigned char>(c)]);
    return true;
  }

  void merge(std::vector<Symbol>& symbols) const {
    std::vector<Candidate> storage;
    storage.reserve(symbols.size());
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>(), std::move(storage));
    const auto offer = [&](int32_t at) {
      if (at < 0 || symbols[static_cast<size_t>(at)].next < 0) return;
      const Symbol& symbol = symbols[static_cast<size_t>(at)];
      if (const auto found = find_merge(symbol.id, symbols[static_cast<size_t>(symbol.next)].id)) queue.push({found->rank, at, found->id});
    };
    for (size_t i = 0; i + 1 < symbols.size(); ++i) offer(static_cast<int32_t>(i));
    while (!queue.empty()) {
      const Candidate top = queue.top();
      queue.pop();
      Symbol& left = symbols[static_cast<size_t>(top.at)];
      if (!left.alive || left.next < 0) continue;
      Symbol& right = symbols[static_cast<size_t>(left.next)];
      const auto now = find_merge(left.id, right.id);
      if (!now || now->id != top.id) continue;  // what stood here when this was queued has changed
      left.id = top.id;
      left.next = right.next;
      right.alive = false;
      if (right.next >= 0) symbols[static_cast<size_t>(right.next)].previous = top.at;
      offer(left.previous);
      offer(top.at);
    }
  }

  BpeOptions options_;
  std::array<int32_t, 256> byte_ids_{};
};

class ListedBpe : public Bpe {
 public:
  using Merges = std::unordered_map<uint64_t, std::pair<int32_t, int32_t>>;
  ListedBpe(Vocabulary vocabulary, BpeOptions options, Merges merges) : Bpe(std::move(vocabulary), std::move(options)), merges_(std::move(merges)) {}
  static uint64_t key(int32_t left, int32_t right) { return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right); }

 protected:
  [[nodiscard]] std::optional<Merge> find_merge(int32_t left, int32_t right) const override {
    const auto found = merges_.find(key(left, right));
    if (found == merges_.end()) return std::nullopt;
    return Merge{{0.0f, found->second.first, 0, 0, 0}, found->second.second};
  }

 private:
  Merges merges_;
};

int32_t characters_in(const std::string& text) {
  return static_cast<int32_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

class ScoredBpe : public Bpe {
 public:
  ScoredBpe(Vocabulary vocabulary, BpeOptions options, std::vector<float> scores) : Bpe(std::move(vocabulary), std::move(options)), scores_(std::move(scores)) {}

 protected:
  [[nodiscard]] std::optional<Merge> find_merge(int32_t left, int32_t right) const override {
    const std::string &l = vocabulary_.token(left), &r = vocabulary_.token(right);
    const int32_t id = vocabulary_.find(l + r);
    if (id < 0) return std::nullopt;
    return Merge{{-scores_[static_cast<size_t>(id)], -characters_in(l), -characters_in(r), id, left}, id};
  }

 private:
  std::vector<float> scores_;
};

Result<std::pair<std::string, std::string>> merge_parts(const Json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) return std::pair{merge[0].get<std::string>(), merge[1].get<std::string>()};
  if (merge.is_string()) {
    const auto text = merge.get<std::string>();
    const size_t blank = text.find(' ');
    if (blank != std::string::npos && text.find(' ', blank + 1) == std::string::npos) return std::pair{text.substr(0, blank), text.substr(blank + 1)};
  }
  return fail("a merge is neither \"a b\" nor [\"a\", \"b\"]");
}

}  // namespace

std::string byte_token(unsigned char byte) {
  constexpr const char* kDigits = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">";
}

Result<std::unique_ptr<TokenModel>> make_bpe(const Json& json, Vocabulary vocabulary) {
  BpeOptions options;
  const std::string unknown = text_of(json, "unk_token");
  options.unknown = unknown.empty() ? -1 : vocabulary.find(unknown);
  options.fuse_unknown = flag_of(json, "fuse_unk", false);
  options.byte_fallback = flag_of(json, "byte_fallback", false);
  options.ignore_merges = flag_of(json, "ignore_merges", false);
  options.continuing_prefix = text_of(json, "continuing_subword_prefix");
  options.end_suffix = text_of(json, "end_of_word_suffix");
  ListedBpe::Merges merges;
  const auto list = json.find("merges");
  if (list == json.end() || !list->is_array()) return fail("a BPE model has no list of merges");
  merges.reserve(list->size());
  int32_t rank = 0;
  for (const auto& entry : *list) {
    auto parts = merge_parts(entry);
    if (!parts) return base::pass(parts);
    const auto& [left, right] = *parts;
    const std::string tail = right.starts_with(options.continuing_prefix) ? right.substr(options.continuing_prefix.size()) : right;
    const int32_t l = vocabulary.find(left), r = vocabulary.find(right), made = vocabulary.find(left + tail);
    if (l < 0 || r < 0 || made < 0) return fail("the merge '{} {}' names a token that is not in the vocabulary", left, right);
    merges.insert_or_assign(ListedBpe::key(l, r), std::pair{rank++, made});
  }
  return std::make_unique<ListedBpe>(std::move(vocabulary), std::move(options), std::move(merges));
}

std::unique_ptr<TokenModel> make_scored_bpe(Vocabulary vocabulary, std::vector<float> scores, int32_t unknown) {
  scores.resize(vocabulary.size(), 0.0f);
  BpeOptions options{.unknown = unknown, .fuse_unknown = true, .byte_fallback = true};
  return std::make_unique<ScoredBpe>(std::move(vocabulary), std::move(options), std::move(scores));
}

std::vector<std::pair<std::string, std::string>> derived_merges(const Vocabulary& vocabulary, const std::vector<float>& scores, const std::vector<bool>& skipped) {
  std::vector<std::pair<Rank, std::pair<int32_t, int32_t>>> found;
  for (size_t id = 0; id < vocabulary.size(); ++id) {
    const std::string& token = vocabulary.token(static_cast<int32_t>(id));
    if (skipped[id] || token.empty()) continue;
    for (size_t at = utf8_length(token[0]); at < token.size(); at += utf8_length(token[at])) {
      const int32_t left = vocabulary.find(std::string_view(token).substr(0, at)), right = vocabulary.find(std::string_view(token).substr(at));
      if (left < 0 || right < 0 || skipped[static_cast<size_t>(left)] || skipped[static_cast<size_t>(right)]) continue;
      const Rank rank{-scores[id], -characters_in(vocabulary.token(left)), -characters_in(vocabulary.token(right)), static_cast<int32_t>(id), left};
      found.push_back({rank, {left, right}});
    }
  }
  std::sort(found.begin(), found.end());
  std::vector<std::pair<std::string, std::string>> out;
  out.reserve(found.size());
  for (const auto& [rank, pair] : found) out.emplace_back(vocabulary.token(pair.first), vocabulary.token(pair.second));
  return out;
}

}  // namespace deepseek::formats
