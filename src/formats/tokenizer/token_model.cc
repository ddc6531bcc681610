#include "formats/tokenizer/token_model.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "formats/tokenizer/bpe.h"
#include "formats/tokenizer/unicode.h"

namespace deepseek::formats {
namespace {

using base::fail;
using base::Result;
using Made = Result<std::unique_ptr<TokenModel>>;

constexpr int64_t kMaxId = 16'777'216;

// Spellings are kept in a table by id: a single huge id must not make it huge.
int64_t id_limit(size_t tokens) { return std::min<int64_t>(kMaxId, 16 * static_cast<int64_t>(tokens) + 65'536); }

Result<Vocabulary> vocabulary_of(const Json& json) {
  const auto vocab = json.find("vocab");
  if (vocab == json.end()) return fail("the model has no vocab");
  return Vocabulary::from_json(*vocab);
}

class WordLevel : public TokenModel {
 public:
  WordLevel(Vocabulary vocabulary, int32_t unknown) : TokenModel(std::move(vocabulary)), unknown_(unknown) {}
  void encode(std::string_view piece, std::vector<int32_t>& ids) const override {
    const int32_t id = vocabulary_.find(piece);
    if (id >= 0 || unknown_ >= 0) ids.push_back(id >= 0 ? id : unknown_);
  }

 private:
  int32_t unknown_;
};

class WordPiece : public TokenModel {
 public:
  WordPiece(Vocabulary vocabulary, int32_t unknown, const std::string& prefix, size_t max_characters)
      : TokenModel(std::move(vocabulary)), unknown_(unknown), max_characters_(max_characters), spellings_(vocabulary_), inside_(spellings_.all()) {
    for (const char c : prefix) {
      if (!spellings_.take(inside_, c)) break;
    }
  }

  // The longest piece that is known, again and again; a word with any part unknown is unknown whole.
  void encode(std::string_view word, std::vector<int32_t>& ids) const override {
    const auto characters = static_cast<size_t>(std::count_if(word.begin(), word.end(), [](char c) { return (c & 0xC0) != 0x80; }));
    const size_t before = ids.size();
    bool known = characters <= max_characters_;
    for (size_t begin = 0; known && begin < word.size();) {
      auto range = begin == 0 ? spellings_.all() : inside_;
      size_t end = begin;
      int32_t id = -1;
      for (size_t at = begin; at < word.size() && spellings_.take(range, word[at]); ++at) {
        if (const int32_t found = spellings_.exact(range); found >= 0) {
          id = found;
          end = at + 1;
        }
      }
      known = id >= 0;
      ids.push_back(id);
      begin = end;
    }
    if (known) return;
    ids.resize(before);
    if (unknown_ >= 0) ids.push_back(unknown_);
  }

 private:
  int32_t unknown_;
  size_t max_characters_;
  Spellings spellings_;
  Spellings::Range inside_;  // what may stand after the beginning of a word
};

class Unigram : public TokenModel {
 public:
  Unigram(Vocabulary vocabulary, std::vector<double> scores, int32_t unknown, bool byte_fallback)
      : TokenModel(std::move(vocabulary)), scores_(std::move(scores)), unknown_(unknown), byte_fallback_(byte_fallback), spellings_(vocabulary_) {
    double least = 0;
    for (const double score : scores_) least = std::min(least, score);
    unknown_score_ = least - 10.0;
  }

  // Viterbi: the segmentation whose scores add up to the most.
  void encode(std::string_view text, std::vector<int32_t>& ids) const override {
    struct Node {
      double score = 0;
      size_t from = std::string_view::npos;
      int32_t id = -1;
    };
    std::vector<Node> best(text.size() + 1);
    for (size_t begin = 0; begin < text.size(); begin += utf8_length(text[begin])) {
      const double score = best[begin].score;
      const size_t character = utf8_length(text[begin]);
      bool single = false;
      const auto offer = [&](size_t end, double gain, int32_t id) {
        Node& node = best[end];
        if (node.from == std::string_view::npos || score + gain > node.score) node = {score + gain, begin, id};
      };
      auto range = spellings_.all();
      for (size_t end = begin; end < text.size() && spellings_.take(range, text[end]);) {
        ++end;
        if (const int32_t id = spellings_.exact(range); id >= 0) {
          offer(end, scores_[static_cast<size_t>(id)], id);
          single = single || end == begin + character;
        }
      }
      if (!single) offer(begin + character, unknown_score_, -1);
    }
    struct Part {
      size_t begin, end;
      int32_t id;
    };
    std::vector<Part> parts;
    for (size_t end = text.size(); end > 0;) {
      const Node& node = best[end];
      // Neighbouring unknown characters are one unknown piece.
      if (node.id < 0 && !parts.empty() && parts.back().id < 0) {
        parts.back().begin = node.from;
      } else {
        parts.push_back({node.from, end, node.id});
      }
      end = node.from;
    }
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) append(text.substr(part->begin, part->end - part->begin), part->id, ids);
  }

 private:
  void append(std::string_view piece, int32_t id, std::vector<int32_t>& ids) const {
    if (id < 0) id = vocabulary_.find(piece);
    if (id >= 0) {
      ids.push_back(id);
      return;
    }
    std::vector<int32_t> bytes;
    if (byte_fallback_) {
      for (const char c : piece) bytes.push_back(vocabulary_.find(byte_token(static_cast<unsigned char>(c))));
      if (std::find(bytes.begin(), bytes.end(), -1) == bytes.end()) {
        ids.insert(ids.end(), bytes.begin(), bytes.end());
        return;
      }
    }
    if (unknown_ >= 0) ids.push_back(unknown_);
  }
  std::vector<double> scores_;
  int32_t unknown_;
  bool byte_fallback_;
  double unknown_score_ = 0;
  Spellings spellings_;
};

Made make_unigram(const Json& json) {
  const auto vocab = json.find("vocab");
  if (vocab == json.end() || !vocab->is_array()) return fail("a Unigram model has no list of pieces");
  Vocabulary vocabulary;
  std::vector<double> scores;
  for (const auto& entry : *vocab) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) return fail("a Unigram piece is not [text, score]");
    vocabulary.add(entry[0].get<std::string>(), static_cast<int32_t>(scores.size()));
    if (vocabulary.token(static_cast<int32_t>(scores.size())).size() > Spellings::kLongest) return fail("the piece {} has more than {} bytes", scores.size(), Spellings::kLongest);
    scores.push_back(entry[1].get<double>());
    if (!std::isfinite(scores.back())) return fail("the score of piece {} is not finite", scores.size() - 1);
  }
  int64_t unknown = -1;
  if (const auto id = json.find("unk_id"); id != json.end() && id->is_number_integer()) unknown = id->get<int64_t>();
  if (unknown >= static_cast<int64_t>(scores.size())) return fail("unk_id {} is outside the vocabulary", unknown);
  return std::make_unique<Unigram>(std::move(vocabulary), std::move(scores), static_cast<int32_t>(std::max<int64_t>(unknown, -1)), flag_of(json, "byte_fallback", false));
}

}  // namespace

Result<Vocabulary> Vocabulary::from_json(const Json& object) {
  if (!object.is_object()) return fail("the vocab is no object");
  Vocabulary out;
  out.reserve(object.size());
  const int64_t limit = id_limit(object.size());
  for (const auto& [token, id] : object.items()) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= limit) return fail("the token '{}' has no sensible id", token);
    out.add(token, id.get<int32_t>());
  }
  return out;
}

namespace {

// Seeded when the program starts, so that no file can hold tokens that all meet in one place.
uint32_t hash_of(std::string_view token) {
  static const uint64_t seed = uint64_t{std::random_device()()} << 32 | std::random_device()();
  return static_cast<uint32_t>(XXH3_64bits_withSeed(token.data(), token.size(), seed));
}

}  // namespace

// Where the spelling is, or the free slot where it belongs.
size_t Vocabulary::slot_of(std::string_view token, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t at = hash & mask;
  while (slots_[at].id >= 0 && (slots_[at].hash != hash || tokens_[static_cast<size_t>(slots_[at].id)] != token)) at = (at + 1) & mask;
  return at;
}

void Vocabulary::grow(size_t slots) {
  std::vector<Slot> before(std::bit_ceil(slots));
  before.swap(slots_);
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : before) {
    if (slot.id < 0) continue;
    size_t at = slot.hash & mask;
    while (slots_[at].id >= 0) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

void Vocabulary::reserve(size_t tokens) {
  tokens_.reserve(tokens);
  if (slots_.size() < 2 * tokens) grow(2 * tokens);
}

int32_t Vocabulary::find(std::string_view token) const {
  if (slots_.empty()) return -1;
  if (const int32_t id = slots_[slot_of(token, hash_of(token))].id; id >= 0 || displaced_.empty()) return id;
  const auto found = displaced_.find(std::string(token));
  return found == displaced_.end() ? -1 : found->second;
}

void Vocabulary::add(std::string token, int32_t id) {
  if (slots_.size() < 2 * (taken_ + 1)) grow(std::max<size_t>(16, 4 * taken_));
  if (static_cast<size_t>(id) >= tokens_.size()) tokens_.resize(static_cast<size_t>(id) + 1);
  std::string& spelling = tokens_[static_cast<size_t>(id)];
  if (!spelling.empty() && spelling != token && find(spelling) == id) displaced_[spelling] = id;
  const uint32_t hash = hash_of(token);
  Slot& slot = slots_[slot_of(token, hash)];
  taken_ += slot.id < 0 ? 1 : 0;
  slot = {hash, id};
  spelling = std::move(token);
}

Spellings::Spellings(const Vocabulary& vocabulary) {
  for (size_t i = 0; i < vocabulary.size(); ++i) {
    const std::string& token = vocabulary.token(static_cast<int32_t>(i));
    // Of two with one spelling, the one that find() gives.
    if (!token.empty() && vocabulary.find(token) == static_cast<int32_t>(i)) sorted_.emplace_back(token, static_cast<int32_t>(i));
  }
  std::sort(sorted_.begin(), sorted_.end());
}

bool Spellings::take(Range& range, char byte) const {
  const auto wanted = static_cast<unsigned char>(byte);
  const auto byte_at = [&](size_t i) {
    const std::string_view spelling = sorted_[i].first;
    return spelling.size() > range.depth ? static_cast<int>(static_cast<unsigned char>(spelling[range.depth])) : -1;
  };
  // The first place whose byte is at least `least`, by bisection.
  const auto first = [&](size_t low, size_t high, int least) {
    while (low < high) {
      const size_t middle = low + (high - low) / 2;
      byte_at(middle) < least ? low = middle + 1 : high = middle;
    }
    return low;
  };
  range.begin = first(range.begin, range.end, wanted);
  range.end = first(range.begin, range.end, wanted + 1);
  ++range.depth;
  return range.begin < range.end;
}

const std::string& Vocabulary::token(int32_t id) const {
  static const std::string kNone;
  return id >= 0 && static_cast<size_t>(id) < tokens_.size() ? tokens_[static_cast<size_t>(id)] : kNone;
}

Made make_token_model(const Json& json) {
  if (!json.is_object()) return fail("the tokenizer has no model");
  std::string type = text_of(json, "type");
  if (type.empty()) type = json.contains("merges") ? "BPE" : json.contains("unk_id") ? "Unigram" : "WordPiece";  // files before version 0.9
  if (type == "Unigram") return make_unigram(json);
  if (type != "BPE" && type != "WordPiece" && type != "WordLevel") return fail("the model '{}' is not known", type);
  auto vocabulary = vocabulary_of(json);
  if (!vocabulary) return base::pass(vocabulary);
  if (type == "BPE") return make_bpe(json, std::move(*vocabulary));
  const int32_t unknown = vocabulary->find(text_of(json, "unk_token", type == "WordPiece" ? "[UNK]" : "<unk>"));
  if (type == "WordLevel") return std::make_unique<WordLevel>(std::move(*vocabulary), unknown);
  for (size_t i = 0; i < vocabulary->size(); ++i) {
    if (vocabulary->token(static_cast<int32_t>(i)).size() > Spellings::kLongest) return fail("the token {} has more than {} bytes", i, Spellings::kLongest);
  }
  const auto most = json.find("max_input_chars_per_word");
  return std::make_unique<WordPiece>(std::move(*vocabulary), unknown, text_of(json, "continuing_subword_prefix", "##"),
                                     most != json.end() && most->is_number_unsigned() ? most->get<size_t>() : 100);
}

}  // namespace deepseek::formats
