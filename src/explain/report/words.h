// The two languages of the reports, and numbers as people read them.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "explain/report/document.h"

namespace deepseek::explain {

enum class Language { kEnglish, kChinese };

/// Says a thing in one of the languages: `say("{} rows", "{} 行", 5)`. Both formats are checked when this is compiled.
struct Words {
  Language language = Language::kEnglish;

  template <typename... Args>
  [[nodiscard]] std::string operator()(fmt::format_string<Args...> english, fmt::format_string<Args...> chinese, Args&&... args) const {
    return language == Language::kChinese ? fmt::format(chinese, std::forward<Args>(args)...) : fmt::format(english, std::forward<Args>(args)...);
  }
  /// "a, b and c", "a、b、c".
  [[nodiscard]] std::string list(const std::vector<std::string>& items) const;
  /// What was meant by the document's fixed texts ("log-odds", "marginal", "trees, interventional"); an unknown one unchanged.
  [[nodiscard]] std::string term(const std::string& text) const;
  /// "(...)" in the language's brackets, with the space that it needs before them.
  [[nodiscard]] std::string bracketed(const std::string& text) const;
};

/// Figures of one report: all with as many decimals as show the greatest of them to three digits.
struct Figures {
  int decimals = 2;
  std::string minus = "-";

  /// Decimals for figures of up to `greatest`.
  [[nodiscard]] static int decimals_for(double greatest);
  /// "1.23", "-0.40", "1,234"; one that would round to zero shows its first digit: "0.0004".
  [[nodiscard]] std::string plain(double x) const;
  /// As plain(), with "+" for what is above zero; "0" for zero.
  [[nodiscard]] std::string with_sign(double x) const;
  /// "+1.23 ±0.04"; without the ± where `half_width` is 0.
  [[nodiscard]] std::string with_bar(double x, double half_width) const;
};

/// A value that its interval does not tell apart from 0.
[[nodiscard]] inline bool holds_zero(double value, double half_width) { return half_width > 0 && value <= half_width && value >= -half_width; }

/// "60.1%", "99.98%", "<0.01%".
[[nodiscard]] std::string percent(double probability);

/// An input as it stands in a sentence: "39", "0.1235", "Sales"; "" for null.
[[nodiscard]] std::string input_text(const nlohmann::ordered_json& input);

/// `text` without what could steer a terminal or turn the direction of a line: control characters as \n, \t or \u{1b}, bidirectional controls likewise. Spaces
/// around it, which words of a text bring, are left out; of spaces alone stays "␣".
[[nodiscard]] std::string harmless(std::string_view text);

/// Columns that `text` takes in a terminal.
[[nodiscard]] int columns_of(std::string_view text);

/// The start of `text` that fits in `columns`, with "…" where something was cut off.
[[nodiscard]] std::string fitted(const std::string& text, int columns);

}  // namespace deepseek::explain
