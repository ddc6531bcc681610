#include "base/json.h"

#include "base/text.h"

namespace deepseek::base {
namespace {

// Deepest nesting of brackets outside strings; recursion over a document is bounded by it.
size_t nesting(std::string_view text) {
  size_t depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++depth);
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return deepest;
}

template <typename Json>
Result<Json> parse(std::string_view text, size_t max_depth) {
  if (nesting(text) > max_depth) return fail("JSON is nested more than {} levels deep", max_depth);
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    std::string reason = error.what();
    if (const auto end = reason.find("] "); end != std::string::npos) reason = reason.substr(end + 2);
    return fail("not valid JSON: {}", to_valid_utf8(reason));
  }
}

}  // namespace

Result<nlohmann::ordered_json> parse_json(std::string_view text, size_t max_depth) { return parse<nlohmann::ordered_json>(text, max_depth); }

Result<nlohmann::ordered_json> read_json_file(const fs::path& path, size_t max_bytes) {
  auto text = read_file(path, max_bytes);
  if (!text) return pass(text);
  auto json = parse_json(*text);
  if (!json) return within(path.string(), json.error());
  return json;
}

Result<nlohmann::json> parse_large_json(std::string_view text, size_t max_depth) { return parse<nlohmann::json>(text, max_depth); }

}  // namespace deepseek::base
