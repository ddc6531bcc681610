// A regular expression (PCRE2) with limits, so that a hostile one ends with "no match" instead of hanging.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace deepseek::base {

class Pattern {
 public:
  /// Errors: what is wrong with the expression and at which character.
  [[nodiscard]] static Result<Pattern> compile(const std::string& expression);
  /// True where the expression matches all of `text`.
  [[nodiscard]] bool matches_all(std::string_view text) const;
  /// The groups of a match that begins at the start of `text` (group 0 first; unset ones are ""); empty where there is none.
  [[nodiscard]] std::vector<std::string> match_prefix(std::string_view text) const;

 private:
  struct Code;
  explicit Pattern(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

}  // namespace deepseek::base
