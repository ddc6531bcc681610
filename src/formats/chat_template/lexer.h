// A template cut into tokens, with Transformers' settings: trim_blocks and lstrip_blocks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deepseek::formats::jinja {

enum class TokenKind { kText, kOutputBegin, kOutputEnd, kBlockBegin, kBlockEnd, kName, kString, kInteger, kFloat, kOperator, kEnd };

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text;
  int line = 1;
};

/// Throws Trouble naming the line.
[[nodiscard]] std::vector<Token> tokenize(std::string_view source);

}  // namespace deepseek::formats::jinja
