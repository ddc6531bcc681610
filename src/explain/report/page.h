// An explanation as one HTML file that shows itself offline.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/result.h"

namespace deepseek::explain {

/// True where this build carries the page (CMake option DEEPSEEK_PAGES and npm).
[[nodiscard]] bool has_page();

/// The explanation document as a page of charts and tables, which loads nothing from anywhere: its content security policy admits its own script alone.
/// `language`: "en" or "zh", the one that it opens in; the page can switch. Of very many features it carries the strongest and says so.
/// Fails where the document cannot be read and where this build carries no page.
[[nodiscard]] base::Result<std::string> html_page(const nlohmann::ordered_json& explanation, const std::string& language);

}  // namespace deepseek::explain
