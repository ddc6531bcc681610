// JSON from outside: one parse with a limit on nesting, errors as sentences.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/files.h"
#include "base/result.h"

namespace deepseek::base {

/// Parses a whole text. Fails on broken JSON (with the place), ill-formed UTF-8, and nesting beyond `max_depth`.
[[nodiscard]] Result<nlohmann::ordered_json> parse_json(std::string_view text, size_t max_depth = 128);

/// A whole file as JSON; every error names it. Fails above `max_bytes`.
[[nodiscard]] Result<nlohmann::ordered_json> read_json_file(const fs::path& path, size_t max_bytes = size_t{16} << 20);

/// As parse_json for objects with very many keys (a vocabulary), whose order is lost: an ordered object takes quadratic time to build.
[[nodiscard]] Result<nlohmann::json> parse_large_json(std::string_view text, size_t max_depth = 128);

/// A field that may be absent, null or of another type: the fallback then.
template <typename T>
T value_or(const nlohmann::ordered_json& object, const char* key, T fallback) {
  const auto found = object.find(key);
  if (found == object.end()) return fallback;
  if constexpr (std::is_same_v<T, bool>) return found->is_boolean() ? found->template get<bool>() : fallback;
  if constexpr (std::is_same_v<T, std::string>) return found->is_string() ? found->template get<std::string>() : fallback;
  if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) return found->is_number() ? found->template get<T>() : fallback;
}

}  // namespace deepseek::base
