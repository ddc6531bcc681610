#include "formats/tokenizer/bpe.h"

#include <algorithm>
#include <array>
#include <bit>
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

struct Symbol {
  int32_t id;
  int32_t previous, next;  // -1: none
  bool alive = true;
};

// Rules: `Rank`, ordered as merges apply, and find(vocabulary, left, right, rank), the token that a pair makes or -1.
template <typename Rules>
class Bpe : public TokenModel {
 public:
  Bpe(Vocabulary vocabulary, BpeOptions options, Rules rules) : TokenModel(std::move(vocabulary)), options_(std::move(options)), rules_(std::move(rules)) {
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

 private:
  struct Candidate {
    typename Rules::Rank rank;
    int32_t at;
    int32_t id;
    bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
  };

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
      Candidate candidate{{}, at, -1};
      candidate.id = rules_.find(vocabulary_, symbol.id, symbols[static_cast<size_t>(symbol.next)].id, candidate.rank);
      if (candidate.id >= 0) queue.push(candidate);
    };
    for (size_t i = 0; i + 1 < symbols.size(); ++i) offer(static_cast<int32_t>(i));
    while (!queue.empty()) {
      const Candidate top = queue.top();
      queue.pop();
      Symbol& left = symbols[static_cast<size_t>(top.at)];
      if (!left.alive || left.next < 0) continue;
      Symbol& right = symbols[static_cast<size_t>(left.next)];
      typename Rules::Rank rank;
      if (rules_.find(vocabulary_, left.id, right.id, rank) != top.id) continue;  // what stood here when this was queued has changed
      left.id = top.id;
      left.next = right.next;
      right.alive = false;
      if (right.next >= 0) symbols[static_cast<size_t>(right.next)].previous = top.at;
      offer(left.previous);
      offer(top.at);
    }
  }

  BpeOptions options_;
  Rules rules_;
  std::array<int32_t, 256> byte_ids_{};
};

// Merges by list: an open table of pairs, which is searched once or twice for every character of a text.
class ListedRules {
 public:
  using Rank = int32_t;
  explicit ListedRules(size_t merges) : slots_(std::bit_ceil(2 * merges + 1)) {}
  // The last one counts where a pair comes twice.
  void add(int32_t left, int32_t right, int32_t rank, int32_t made) { slots_[slot_of(key(left, right))] = {key(left, right), rank, made}; }
  [[nodiscard]] int32_t find(const Vocabulary&, int32_t left, int32_t right, Rank& rank) const {
    const Slot& slot = slots_[slot_of(key(left, right))];
    rank = slot.rank;
    return slot.made;
  }

 private:
  static constexpr uint64_t kNone = ~uint64_t{0};  // ids are not negative
  struct Slot {
    uint64_t key = kNone;
    int32_t rank = 0, made = -1;
  };
  static uint64_t key(int32_t left, int32_t right) { return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right); }
  [[nodiscard]] size_t slot_of(uint64_t key) const {
    const size_t mask = slots_.size() - 1;
    size_t at = static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> 20) & mask;
    while (slots_[at].key != key && slots_[at].key != kNone) at = (at + 1) & mask;
    return at;
  }
  std::vector<Slot> slots_;
};

int32_t characters_in(const std::string& text) {
  return static_cast<int32_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// Merges by the score of what they make, highest first; ties are broken as Transformers does.
struct ScoredRules {
  using Rank = std::tuple<float, int32_t, int32_t, int32_t, int32_t>;
  std::vector<float> scores;
  [[nodiscard]] int32_t find(const Vocabulary& vocabulary, int32_t left, int32_t right, Rank& rank) const {
    const std::string &l = vocabulary.token(left), &r = vocabulary.token(right);
    const int32_t id = vocabulary.find(l + r);
    if (id >= 0) rank = {-scores[static_cast<size_t>(id)], -characters_in(l), -characters_in(r), id, left};
    return id;
  }
};

// Views into the JSON.
Result<std::pair<std::string_view, std::string_view>> merge_parts(const Json& merge) {
  using Text = const std::string&;
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) return std::pair<std::string_view, std::string_view>{merge[0].get_ref<Text>(), merge[1].get_ref<Text>()};
  if (merge.is_string()) {
    const std::string_view text = merge.get_ref<Text>();
    const size_t blank = text.find(' ');
    if (blank != std::string_view::npos && text.find(' ', blank + 1) == std::string_view::npos) return std::pair{text.substr(0, blank), text.substr(blank + 1)};
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
  const auto list = json.find("merges");
  if (list == json.end() || !list->is_array()) return fail("a BPE model has no list of merges");
  ListedRules merges(list->size());
  int32_t rank = 0;
  std::string whole;
  for (const auto& entry : *list) {
    auto parts = merge_parts(entry);
    if (!parts) return base::pass(parts);
    const auto& [left, right] = *parts;
    whole.assign(left).append(right.starts_with(options.continuing_prefix) ? right.substr(options.continuing_prefix.size()) : right);
    const int32_t l = vocabulary.find(left), r = vocabulary.find(right), made = vocabulary.find(whole);
    if (l < 0 || r < 0 || made < 0) return fail("the merge '{} {}' names a token that is not in the vocabulary", left, right);
    merges.add(l, r, rank++, made);
  }
  return std::make_unique<Bpe<ListedRules>>(std::move(vocabulary), std::move(options), std::move(merges));
}

std::unique_ptr<TokenModel> make_scored_bpe(Vocabulary vocabulary, std::vector<float> scores, int32_t unknown) {
  scores.resize(vocabulary.size(), 0.0f);
  BpeOptions options{.unknown = unknown, .fuse_unknown = true, .byte_fallback = true};
  return std::make_unique<Bpe<ScoredRules>>(std::move(vocabulary), std::move(options), ScoredRules{std::move(scores)});
}

std::vector<std::pair<std::string, std::string>> derived_merges(const Vocabulary& vocabulary, const std::vector<float>& scores, const std::vector<bool>& skipped) {
  std::vector<std::pair<ScoredRules::Rank, std::pair<int32_t, int32_t>>> found;
  for (size_t id = 0; id < vocabulary.size(); ++id) {
    const std::string& token = vocabulary.token(static_cast<int32_t>(id));
    if (skipped[id] || token.empty()) continue;
    for (size_t at = utf8_length(token[0]); at < token.size(); at += utf8_length(token[at])) {
      const int32_t left = vocabulary.find(std::string_view(token).substr(0, at)), right = vocabulary.find(std::string_view(token).substr(at));
      if (left < 0 || right < 0 || skipped[static_cast<size_t>(left)] || skipped[static_cast<size_t>(right)]) continue;
      const ScoredRules::Rank rank{-scores[id], -characters_in(vocabulary.token(left)), -characters_in(vocabulary.token(right)), static_cast<int32_t>(id), left};
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
