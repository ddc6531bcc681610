// Tokens that are recognised in the text itself, before or after it is normalised.
#pragma once

#include <optional>
#include <string>
#include <vector>

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
  TokenFinder() : nodes_(1), beginnings_(256, -1) {}
  void add(const std::string& spelling, const AddedToken& token);
  [[nodiscard]] bool empty() const { return tokens_.empty(); }
  /// `special`: find special tokens too.
  [[nodiscard]] std::vector<Segment> split(const std::string& text, bool special) const;

 private:
  [[nodiscard]] std::pair<int32_t, size_t> longest(const std::string& text, size_t at, bool special) const;
  // A tree of bytes, each node with its first child and its next sibling: a step costs 256 at most, whatever a file holds, and the beginnings
  // are a table. Gemma has 6,400 tokens and 40,000 nodes.
  struct Node {
    unsigned char byte = 0;
    int32_t child = -1, sibling = -1, token = -1;
  };
  [[nodiscard]] int32_t child(int32_t node, char byte) const;  ///< -1: none
  int32_t make_child(int32_t node, char byte);
  std::vector<Node> nodes_;
  std::vector<int32_t> beginnings_;  // children of the root
  std::vector<AddedToken> tokens_;
};

[[nodiscard]] base::Result<std::vector<AddedToken>> read_added_tokens(const Json& list);

}  // namespace deepseek::formats
