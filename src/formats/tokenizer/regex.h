// Regular expressions of tokenizer.json (Oniguruma's syntax) on PCRE2, with a limit that ends hostile ones.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
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
  /// Each match becomes `by`.
  void replace(std::string& text, const std::string& by) const;
  /// How many times longer that can make a text.
  [[nodiscard]] double growth_by(const std::string& by) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
  std::string literal_;
};

/// The "pattern" of a component: {"String": text} or {"Regex": expression}. `what` names the component in errors.
[[nodiscard]] base::Result<Regex> pattern_of(const nlohmann::json& json, const char* what);

}  // namespace deepseek::formats
