// The models of tokenizer.json: BPE, Unigram, WordPiece, WordLevel. A piece of text becomes ids.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/tokenizer/component.h"

namespace deepseek::formats {

/// Spellings by id and ids by spelling.
class Vocabulary {
 public:
  [[nodiscard]] static base::Result<Vocabulary> from_json(const Json& object);
  /// Of two ids for a spelling the last counts; of two spellings for an id, token() gives the last and find() knows both. A pair that was
  /// replaced must not be added again.
  void add(std::string token, int32_t id);
  void reserve(size_t tokens);
  /// -1: none.
  [[nodiscard]] int32_t find(std::string_view token) const;
  [[nodiscard]] const std::string& token(int32_t id) const;
  [[nodiscard]] size_t size() const { return tokens_.size(); }  ///< the largest id and one

 private:
  // An open table of ids, whose spellings are in tokens_: a vocabulary of 262,144 is filled in 15 ms, where a map with nodes takes 100.
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;
  };
  [[nodiscard]] size_t slot_of(std::string_view token, uint32_t hash) const;
  void grow(size_t slots);
  std::vector<std::string> tokens_;
  std::vector<Slot> slots_;
  size_t taken_ = 0;
  std::unordered_map<std::string, int32_t> displaced_;  // spellings whose id has another one by now
};

/// The spellings of a vocabulary in order, gone through byte by byte: all tokens that begin a text are found in time that
/// grows with the longest of them.
class Spellings {
 public:
  static constexpr size_t kLongest = 1024;
  explicit Spellings(const Vocabulary& vocabulary);
  /// Those that begin with the bytes taken so far.
  struct Range {
    size_t begin = 0, end = 0, depth = 0;
  };
  [[nodiscard]] Range all() const { return {0, sorted_.size(), 0}; }
  /// Takes one byte more; false where no token is left.
  bool take(Range& range, char byte) const;
  /// The token that is the bytes taken so far and no more; -1 where there is none.
  [[nodiscard]] int32_t exact(const Range& range) const {
    return range.begin < range.end && sorted_[range.begin].first.size() == range.depth ? sorted_[range.begin].second : -1;
  }

 private:
  std::vector<std::pair<std::string_view, int32_t>> sorted_;  // views into the vocabulary, which must not change or move
};

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  virtual void encode(std::string_view piece, std::vector<int32_t>& ids) const = 0;
  [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }

 protected:
  explicit TokenModel(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}
  Vocabulary vocabulary_;
};

/// From the "model" object of a tokenizer.json. Errors: an unknown type, ids that are negative or absurd, merges whose parts
/// or result are not in the vocabulary.
[[nodiscard]] base::Result<std::unique_ptr<TokenModel>> make_token_model(const Json& json);

/// SentencePiece's BPE as GGUF stores it: a score for each piece, the highest first; unknown characters become byte tokens.
[[nodiscard]] std::unique_ptr<TokenModel> make_scored_bpe(Vocabulary vocabulary, std::vector<float> scores, int32_t unknown);
/// The merges that Transformers derives from such scores, in its order.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> derived_merges(const Vocabulary& vocabulary, const std::vector<float>& scores,
                                                                              const std::vector<bool>& skipped);

}  // namespace deepseek::formats
