// Groups of features in a file: JSON, or YAML where the build has yaml-cpp.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/files.h"
#include "base/result.h"

namespace deepseek::explain {

/// What tree_of_groups() reads. A file that ends in .json or begins with a brace is JSON, any other YAML:
///
///     vitals:
///       - age
///       - pressure: [systolic, diastolic]
///     blood: {red: [iron], white: [count]}
///
/// Every scalar of YAML is a name as it is written, `yes` and `1` too. Errors name the file and the line: more than 1 MiB, 64 levels or 200,000 names and
/// groups, a group that is there twice, anchors and aliases, several documents.
[[nodiscard]] base::Result<nlohmann::ordered_json> read_groups(const base::fs::path& path);

}  // namespace deepseek::explain
