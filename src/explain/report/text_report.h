// An explanation as text for a terminal.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace deepseek::explain {

struct TextReportOptions {
  int width = 80;     ///< columns; bars get what names and figures leave
  int features = 12;  ///< that are shown one by one, with their groups; the others stand as one line in each group
};

/// What a person reads of the explanation document: the conclusion, values as an indented tree with error bars, interactions, sentences, the method.
/// `language`: "en" or "zh"; any other is taken as "en". Control characters of names are shown as \n or \u{1b}. A document that cannot be read gives the
/// sentence that says why.
[[nodiscard]] std::string text_report(const nlohmann::ordered_json& explanation, const std::string& language, const TextReportOptions& options = {});

}  // namespace deepseek::explain
