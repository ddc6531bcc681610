#include "base/web_page.h"

#include <nlohmann/json.hpp>

#include "base/text.h"

namespace deepseek::base {

std::string escape_html(std::string_view text) {
  std::string result;
  for (const char c : to_valid_utf8(text)) {
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '"': result += "&quot;"; break;
      case '\'': result += "&#39;"; break;
      default:
        if (static_cast<unsigned char>(c) >= 32 || c == '\n' || c == '\t') result += c;
    }
  }
  return result;
}

std::string script_json(const nlohmann::ordered_json& json) {
  std::string result;
  for (const char c : json.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace)) {
    if (c == '<') result += "\\u003c";
    else result += c;
  }
  return result;
}

}  // namespace deepseek::base
