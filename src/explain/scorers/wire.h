// The JSON that programs and servers get and give, and models made of them.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "explain/scorers/columns.h"

namespace deepseek::explain {

/// {"columns": ["age", "job"], "rows": [[39, "clerk"], [41.5, null]]} and a line end. Codes are written as their text; null is missing, a code without a text, or infinite.
class WireRequest {
 public:
  explicit WireRequest(std::span<const FeatureText> features);
  [[nodiscard]] std::string text(std::span<const double> rows) const;

 private:
  std::string head_;
  std::vector<std::vector<std::string>> categories_;  // as JSON
};

struct WireAnswer {
  std::vector<double> scores;       ///< [rows, outputs]
  size_t outputs = 1;
  std::vector<std::string> names;   ///< of the outputs; empty: none were given
};

/// {"scores": [s, ...]} or {"scores": [[s0, s1], ...]}, with "outputs": [names] as it pleases. Errors: no JSON, no scores, another number of them than `rows`, rows of
/// different length, what is no finite number, names that do not fit.
[[nodiscard]] base::Result<WireAnswer> read_answer(std::string_view text, size_t rows);

/// Hands a request over and brings the answer; an answer above most_bytes is an error.
using Transport = std::function<base::Result<std::string>(const std::string& request, size_t most_bytes)>;

/// A model behind a transport. Asks for one row at once, which tells its outputs.
[[nodiscard]] base::Result<TableModel> open_remote(const std::string& kind, Transport transport, const ScorerOptions& options, const KnownColumns& known);

}  // namespace deepseek::explain
