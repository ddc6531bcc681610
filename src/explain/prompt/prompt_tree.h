// A prompt as a tree: paragraphs, sentences, words.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "explain/feature_tree.h"

namespace deepseek::explain {

/// Bytes [begin, end) of a text; before `word` are spaces only.
struct TextPiece {
  size_t begin = 0, word = 0, end = 0;
};

/// Leaves are the pieces, named by their text; one after the other they are the whole prompt. A piece is a word with what stands before it and belongs to it:
/// spaces, opening brackets; closing punctuation belongs to the word before, as tokenizers have it. An emoji is a piece of its own.
struct PromptTree {
  FeatureTree tree;
  std::vector<TextPiece> pieces;  ///< [features]
};

/// Words and sentences end where Unicode says so (UAX 29; words of Chinese, Japanese and Thai by ICU's dictionaries), paragraphs at empty lines. A paragraph or sentence
/// with one part only is that part. Refuses a text of nothing but spaces, and ill-formed UTF-8.
[[nodiscard]] base::Result<PromptTree> prompt_tree(std::string_view prompt);

}  // namespace deepseek::explain
