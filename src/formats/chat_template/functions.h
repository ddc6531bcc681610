// What filters and methods of templates share.
#pragma once

#include <string>

#include "formats/chat_template/value.h"

namespace deepseek::formats::jinja {

constexpr const char* kBlanks = " \t\n\r\f\v";

/// The argument at `index`, or the one named `name`.
[[nodiscard]] Value argument(const Arguments& arguments, size_t index, const char* name, Value fallback = {});
/// Without the characters of `what` at its ends.
[[nodiscard]] std::string stripped(const std::string& text, const std::string& what, bool left, bool right);
/// The first `count` places of `what`, all where it is negative.
[[nodiscard]] std::string replaced(const std::string& text, const std::string& what, const std::string& by, int64_t count);
/// Python's str.split: at blanks where the separator is None; `most` splits, all where it is negative.
[[nodiscard]] List split(const std::string& text, const Value& separator, int64_t most);
/// [key, value] of each entry of a mapping.
[[nodiscard]] List pairs_of(const Value& value);

template <typename TextOf>
std::string joined(const List& list, const std::string& by, TextOf text_of) {
  std::string out;
  for (size_t i = 0; i < list.size(); ++i) {
    if (i > 0) out += by;
    out += text_of(list[i]);
    check_text(out.size());
  }
  return out;
}

}  // namespace deepseek::formats::jinja
