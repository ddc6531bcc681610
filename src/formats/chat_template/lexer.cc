#include "formats/chat_template/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "formats/chat_template/value.h"

namespace deepseek::formats::jinja {
namespace {

constexpr std::array<std::string_view, 8> kLongOperators{"==", "!=", "<=", ">=", "//", "**", "->", ":="};

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) text_then_tag();
    tokens_.push_back({TokenKind::kEnd, "", line_});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Trouble(fmt::format("line {}: {}", line_, what)); }
  bool here(std::string_view text) const { return source_.substr(at_, text.size()) == text; }
  void advance(size_t count) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<long>(at_), source_.begin() + static_cast<long>(at_ + count), '\n'));
    at_ += count;
  }
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  void text_then_tag() {
    size_t tag = at_;
    while ((tag = source_.find('{', tag)) != std::string_view::npos) {
      if (tag + 1 < source_.size() && std::string_view("{%#").find(source_[tag + 1]) != std::string_view::npos) break;
      ++tag;
    }
    std::string text(source_.substr(at_, std::min(tag, source_.size()) - at_));
    const size_t length = text.size();
    trim_begin(text);
    if (tag == std::string_view::npos) {
      if (!text.empty()) add(TokenKind::kText, text);
      advance(length);
      return;
    }
    const char kind = source_[tag + 1], sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
    if (sign == '-') {
      text.erase(text.find_last_not_of(" \t\r\n\f\v") + 1);
    } else if (sign != '+' && kind != '{') {
      lstrip_block(text, length);
    }
    if (!text.empty()) add(TokenKind::kText, text);
    advance(length);
    if (kind == '#') {
      comment();
    } else {
      this->tag(kind);
    }
  }

  // What the tag before asked for: all blanks after "-%}", one line end after a block.
  void trim_begin(std::string& text) {
    if (strip_next_) {
      text.erase(0, std::min(text.find_first_not_of(" \t\r\n\f\v"), text.size()));
    } else if (trim_next_ && text.starts_with("\n")) {
      text.erase(0, 1);
    }
    strip_next_ = trim_next_ = false;
  }

  // Blanks between the beginning of a line and a block go.
  void lstrip_block(std::string& text, size_t original) const {
    const size_t line = text.rfind('\n');
    const size_t begin = line == std::string::npos ? 0 : line + 1;
    const bool at_line_start = line != std::string::npos || at_ == 0 || (text.size() < original) || (at_ > 0 && source_[at_ - 1] == '\n');
    if (at_line_start && text.find_first_not_of(" \t\f\v\r", begin) == std::string::npos) text.erase(begin);
  }

  void comment() {
    const size_t end = source_.find("#}", at_ + 2);
    if (end == std::string_view::npos) fail("a comment is not closed");
    strip_next_ = source_[end - 1] == '-' && end - 1 > at_ + 1;
    trim_next_ = source_[end - 1] != '+';
    advance(end + 2 - at_);
  }

  void tag(char kind) {
    const bool output = kind == '{';
    add(output ? TokenKind::kOutputBegin : TokenKind::kBlockBegin, "");
    advance(2);
    if (here("-") || (here("+") && !output)) advance(1);
    const std::string_view close = output ? "}}" : "%}";
    int depth = 0;
    for (;;) {
      while (at_ < source_.size() && std::isspace(static_cast<unsigned char>(source_[at_])) != 0) advance(1);
      if (at_ >= source_.size()) fail("a tag is not closed");
      if (depth == 0) {
        const bool minus = here("-") && source_.substr(at_ + 1, 2) == close, plus = here("+") && source_.substr(at_ + 1, 2) == close;
        if (minus || plus || here(close)) {
          advance(close.size() + (minus || plus ? 1 : 0));
          add(output ? TokenKind::kOutputEnd : TokenKind::kBlockEnd, "");
          strip_next_ = minus;
          trim_next_ = !output && !plus;
          if (!output) raw_block();
          return;
        }
      }
      const char c = source_[at_];
      if (c == '(' || c == '[' || c == '{') ++depth;
      if (c == ')' || c == ']' || c == '}') --depth;
      if (depth < 0) fail(fmt::format("a '{}' that nothing opened", c));
      expression_token();
    }
  }

  void raw_block() {
    const size_t n = tokens_.size();
    if (n < 3 || tokens_[n - 2].text != "raw" || tokens_[n - 3].kind != TokenKind::kBlockBegin) return;
    size_t end = at_;
    for (;;) {
      end = source_.find("{%", end);
      if (end == std::string_view::npos) fail("a raw block is not closed");
      size_t word = end + 2;
      if (word < source_.size() && (source_[word] == '-' || source_[word] == '+')) ++word;
      while (word < source_.size() && source_[word] == ' ') ++word;
      if (source_.substr(word, 6) == "endraw") break;
      end += 2;
    }
    tokens_.resize(n - 3);
    std::string text(source_.substr(at_, end - at_));
    trim_begin(text);
    if (!text.empty()) add(TokenKind::kText, text);
    const size_t close = source_.find("%}", end);
    if (close == std::string_view::npos) fail("a raw block is not closed");
    strip_next_ = source_[close - 1] == '-';
    trim_next_ = true;
    advance(close + 2 - at_);
  }

  void expression_token() {
    const char c = source_[at_];
    if (std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_') {
      size_t end = at_;
      while (end < source_.size() && (std::isalnum(static_cast<unsigned char>(source_[end])) != 0 || source_[end] == '_')) ++end;
      add(TokenKind::kName, std::string(source_.substr(at_, end - at_)));
      return advance(end - at_);
    }
    if (std::isdigit(static_cast<unsigned char>(c)) != 0) return number();
    if (c == '"' || c == '\'') return string(c);
    for (const auto op : kLongOperators) {
      if (here(op)) {
        add(TokenKind::kOperator, std::string(op));
        return advance(op.size());
      }
    }
    if (std::string_view("+-*/%~<>=()[]{}.,:|!").find(c) == std::string_view::npos) fail(fmt::format("the character '{}' means nothing here", c));
    add(TokenKind::kOperator, std::string(1, c));
    advance(1);
  }

  void number() {
    size_t end = at_;
    bool real = false;
    while (end < source_.size() && (std::isdigit(static_cast<unsigned char>(source_[end])) != 0 || source_[end] == '_' ||
                                    (!real && source_[end] == '.' && end + 1 < source_.size() && std::isdigit(static_cast<unsigned char>(source_[end + 1])) != 0))) {
      real = real || source_[end] == '.';
      ++end;
    }
    std::string text(source_.substr(at_, end - at_));
    std::erase(text, '_');
    if (text.size() > 18) fail("a number is too long");
    add(real ? TokenKind::kFloat : TokenKind::kInteger, text);
    advance(end - at_);
  }

  void string(char quote) {
    std::string text;
    size_t end = at_ + 1;
    for (; end < source_.size() && source_[end] != quote; ++end) {
      if (source_[end] != '\\' || end + 1 >= source_.size()) {
        text += source_[end];
        continue;
      }
      const char escaped = source_[++end];
      switch (escaped) {
        case 'n': text += '\n'; break;
        case 't': text += '\t'; break;
        case 'r': text += '\r'; break;
        case 'b': text += '\b'; break;
        case 'f': text += '\f'; break;
        case '\\': text += '\\'; break;
        case '\'': text += '\''; break;
        case '"': text += '"'; break;
        case '\n': break;
        case 'u': end += unicode_escape(end + 1, 4, text); break;
        case 'x': end += unicode_escape(end + 1, 2, text); break;
        default: text += '\\'; text += escaped;
      }
    }
    if (end >= source_.size()) fail("a text is not closed");
    add(TokenKind::kString, text);
    advance(end + 1 - at_);
  }

  size_t unicode_escape(size_t at, size_t digits, std::string& text) const {
    if (at + digits > source_.size()) fail("an escape is cut off");
    uint32_t code = 0;
    for (size_t i = 0; i < digits; ++i) {
      if (std::isxdigit(static_cast<unsigned char>(source_[at + i])) == 0) fail("an escape is no hexadecimal number");
      code = code * 16 + static_cast<uint32_t>(std::stoi(std::string(1, source_[at + i]), nullptr, 16));
    }
    if (code >= 0xD800 && code < 0xE000) fail("an escape is half a character");
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else if (code < 0x800) {
      text += {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
    } else {
      text += {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3F)), static_cast<char>(0x80 | (code & 0x3F))};
    }
    return digits;
  }

  std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  bool strip_next_ = false, trim_next_ = false;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  if (source.ends_with('\n')) source.remove_suffix(1);  // Jinja drops one line end at the end
  return Lexer(source).run();
}

}  // namespace deepseek::formats::jinja
