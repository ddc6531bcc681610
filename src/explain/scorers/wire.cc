#include "explain/scorers/wire.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "base/text.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using Json = nlohmann::ordered_json;

constexpr size_t kLeastAnswer = size_t{1} << 20;
constexpr size_t kBytesOfScore = 64;  // digits, blanks and indentation around them

std::string json_text(const std::string& text) { return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace); }

// How a text begins, fit to be shown.
std::string beginning(std::string_view text) {
  constexpr size_t kShown = 120;
  std::string shown = base::to_valid_utf8(text.substr(0, kShown));
  std::replace_if(shown.begin(), shown.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  return text.size() > kShown ? shown + " ..." : shown;
}

Status read_score(const Json& json, size_t row, std::vector<double>& scores) {
  if (json.is_null()) return base::fail("the score of row {} is null", row);
  if (!json.is_number()) return base::fail("the score of row {} is no number: {}", row, beginning(json.dump(-1, ' ', false, Json::error_handler_t::replace)));
  const double score = json.get<double>();
  if (!std::isfinite(score)) return base::fail("the score of row {} is {}", row, score);
  scores.push_back(score);
  return {};
}

Status read_rows(const Json& list, WireAnswer& answer) {
  const bool nested = !list.empty() && list[0].is_array();
  if (nested) answer.outputs = list[0].size();
  if (answer.outputs == 0) return base::fail("the scores of row 0 are empty");
  for (size_t r = 0; r < list.size(); ++r) {
    if (!nested) {
      if (Status ok = read_score(list[r], r, answer.scores); !ok) return ok;
      continue;
    }
    if (!list[r].is_array() || list[r].size() != answer.outputs) return base::fail("row {} has not {} scores as row 0 has", r, answer.outputs);
    for (const Json& score : list[r]) {
      if (Status ok = read_score(score, r, answer.scores); !ok) return ok;
    }
  }
  return {};
}

Status read_names(const Json& json, WireAnswer& answer) {
  const auto names = json.find("outputs");
  if (names == json.end() || names->is_null()) return {};
  if (!names->is_array() || names->size() != answer.outputs) return base::fail("\"outputs\" is no list of {} names", answer.outputs);
  std::set<std::string> seen;
  for (const Json& name : *names) {
    if (!name.is_string() || name.get_ref<const std::string&>().empty()) return base::fail("\"outputs\" holds what is no name");
    answer.names.push_back(name.get<std::string>());
    if (!seen.insert(answer.names.back()).second) return base::fail("\"outputs\" holds '{}' twice", answer.names.back());
  }
  return {};
}

Result<WireAnswer> ask(const Transport& transport, const WireRequest& request, std::span<const double> rows, size_t count, size_t outputs) {
  auto text = transport(request.text(rows), kLeastAnswer + kBytesOfScore * count * outputs);
  if (!text) return base::pass(text);
  return read_answer(*text, count);
}

}  // namespace

WireRequest::WireRequest(std::span<const FeatureText> features) {
  head_ = "{\"columns\": [";
  for (const FeatureText& feature : features) {
    head_ += (&feature == features.data() ? "" : ", ") + json_text(feature.name);
    std::vector<std::string> categories;
    for (const std::string& category : feature.categories) categories.push_back(json_text(category));
    categories_.push_back(std::move(categories));
  }
  head_ += "], \"rows\": [";
}

std::string WireRequest::text(std::span<const double> rows) const {
  std::string out = head_;
  const size_t width = categories_.size();
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::vector<std::string>& categories = categories_[i % width];
    const double x = rows[i];
    out += i % width != 0 ? ", " : i == 0 ? "[" : ", [";
    if (!std::isfinite(x)) out += "null";
    else if (categories.empty()) fmt::format_to(std::back_inserter(out), "{}", x);
    else out += x >= 0 && x == std::floor(x) && x < static_cast<double>(categories.size()) ? categories[static_cast<size_t>(x)] : "null";
    if (i % width == width - 1) out += "]";
  }
  return out + "]}\n";
}

Result<WireAnswer> read_answer(std::string_view text, size_t rows) {
  auto json = base::parse_json(text, 8);
  if (!json) {
    const bool nan = text.find("NaN") != std::string_view::npos || text.find("Infinity") != std::string_view::npos;
    return base::fail("the answer is {}: {}", nan ? "no JSON (it holds NaN or Infinity; a score is a finite number)" : "no JSON", text.empty() ? "(empty)" : beginning(text));
  }
  if (!json->is_object() || !json->contains("scores")) return base::fail("the answer has no \"scores\": {}", beginning(text));
  const Json& list = (*json)["scores"];
  if (!list.is_array()) return base::fail("the answer's \"scores\" is no list");
  if (list.size() != rows) return base::fail("the answer has scores for {} rows of {}", list.size(), rows);
  WireAnswer answer;
  if (Status ok = read_rows(list, answer); !ok) return base::pass(ok);
  if (Status ok = read_names(*json, answer); !ok) return base::pass(ok);
  return answer;
}

Result<TableModel> open_remote(const std::string& kind, Transport transport, const ScorerOptions& options, const KnownColumns& known) {
  if (known.schema.features.empty()) return base::refuse("there is no data or schema file that says which columns it gets");
  TableModel model{.kind = kind, .features = known.schema.features, .target = known.schema.target};
  const auto request = std::make_shared<const WireRequest>(model.features);
  auto first = ask(transport, *request, probe_row(options, model.features), 1, 1);
  if (!first) return base::pass(first);
  const size_t outputs = first->outputs, width = model.features.size(), batch = static_cast<size_t>(options.batch);
  model.outputs = first->names.empty() ? output_names(known.schema, outputs) : first->names;
  model.score = [transport = std::move(transport), request, outputs, width, batch](std::span<const double> rows) -> Result<std::vector<double>> {
    std::vector<double> scores;
    scores.reserve(rows.size() / width * outputs);
    for (size_t at = 0; at < rows.size(); at += batch * width) {
      const auto part = rows.subspan(at, std::min(batch * width, rows.size() - at));
      auto answer = ask(transport, *request, part, part.size() / width, outputs);
      if (!answer) return base::pass(answer);
      if (answer->outputs != outputs) return base::fail("it gave {} scores for a row, after {} for the first one", answer->outputs, outputs);
      scores.insert(scores.end(), answer->scores.begin(), answer->scores.end());
    }
    return scores;
  };
  return model;
}

}  // namespace deepseek::explain
