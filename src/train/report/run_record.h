// What metrics.jsonl says about one run.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace deepseek::train {

using Json = nlohmann::ordered_json;

struct RunRecord {
  Json start = Json::object(), end = Json::object();  ///< Empty objects where the line is missing.
  std::vector<Json> stages, samples;
  std::map<int64_t, Json> steps, evaluations;  ///< By step; the last line of a step counts, as after a resume.
  std::vector<int64_t> resumes;
  size_t unreadable = 0;  ///< Lines that are no JSON object with a type.
};

/// `name` stands for the file in the error.
[[nodiscard]] base::Result<RunRecord> parse_run(std::string_view jsonl, const std::string& name);

/// A finite number, or NaN where the field is missing, null or something else.
[[nodiscard]] double number(const Json& object, const char* field);
/// A string, or "" where the field is missing or something else.
[[nodiscard]] std::string text(const Json& object, const char* field);
/// A whole number within +-2^53, or -1.
[[nodiscard]] int64_t whole(const Json& object, const char* field);

}  // namespace deepseek::train
