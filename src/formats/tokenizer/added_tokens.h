// Tokens that are recognised in the text itself, before or after it is normalised.
#pragma once

#include <map>
#include <optional>
#include <set>

#include "formats/tokenizer/component.h"

namespace deepseek::formats {

constexpr size_t kLongestToken = 1024;  // bytes: the search for tokens may look that far at every place of a text

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false, single_word = false, lstrip = false, rstrip = false, normalized = false;
};

/// A part of a text: a token, or text between tokens.
struct Segment {
  int32_t id = -1;
  size_t begin = 0, end = 0;
};

/// Finds tokens leftmost, longest first.
class TokenFinder {
 public:
  void add(const std::string& spelling, const AddedToken& token);
  [[nodiscard]] bool empty() const { return tokens_.empty(); }
  /// `special`: find special tokens too.
  [[nodiscard]] std::vector<Segment> split(const std::string& text, bool special) const;

 private:
  struct Node {
    std::map<unsigned char, int32_t> next;
    int32_t token = -1;
  };
  [[nodiscard]] std::pair<int32_t, size_t> longest(const std::string& text, size_t at, bool special) const;
  std::vector<Node> nodes_{Node{}};
  std::vector<AddedToken> tokens_;
};

[[nodiscard]] base::Result<std::vector<AddedToken>> read_added_tokens(const Json& list);

}  // namespace deepseek::formats
