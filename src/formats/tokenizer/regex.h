// Regular expressions of tokenizer.json (Oniguruma's syntax) on PCRE2, with a limit that ends hostile ones.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace deepseek::formats {

class Regex {
 public:
  [[nodiscard]] static base::Result<Regex> compile(const std::string& expression);
  /// A literal text.
  [[nodiscard]] static Regex literal(const std::string& text);
  /// [begin, end) of each match, in order. A match that exceeds the limits ends the search.
  [[nodiscard]] std::vector<std::pair<size_t, size_t>> matches(std::string_view text) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
  std::string literal_;
};

}  // namespace deepseek::formats
