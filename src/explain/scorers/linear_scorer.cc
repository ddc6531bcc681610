// Linear models from JSON: weights, an offset, and what they belong to.
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "explain/scorers/kinds.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using Json = nlohmann::ordered_json;
using Link = TreeEnsemble::Link;

constexpr size_t kLargestFile = size_t{64} << 20;

Status append_numbers(const Json& list, const char* what, std::vector<double>& to) {
  if (!list.is_array()) return base::fail("\"{}\" is no list of numbers", what);
  for (const Json& item : list) {
    if (!item.is_number() || !std::isfinite(item.get<double>())) return base::fail("\"{}\" holds what is no finite number", what);
    to.push_back(item.get<double>());
  }
  return {};
}

// Fills weights and offset; returns the number of outputs.
Result<size_t> read_weights(const Json& json, TableModel& model) {
  const auto weights = json.find("weights");
  if (weights == json.end()) return base::fail("this JSON is no model: it has neither XGBoost's \"learner\" nor the \"weights\" of a linear model");
  if (!weights->is_array() || weights->empty()) return base::fail("\"weights\" is no list of numbers");
  const bool nested = (*weights)[0].is_array();
  const size_t outputs = nested ? weights->size() : 1, width = nested ? (*weights)[0].size() : weights->size();
  if (width == 0) return base::fail("\"weights\" is empty");
  for (size_t o = 0; o < outputs; ++o) {
    const Json& row = nested ? (*weights)[o] : *weights;
    if (Status ok = append_numbers(row, "weights", model.weights); !ok) return base::pass(ok);
    if (model.weights.size() != (o + 1) * width) return base::fail("\"weights\" has rows of {} and {} numbers", width, row.size());
  }
  const auto offset = json.find("offset");
  if (offset == json.end() || offset->is_null()) {
    model.offset.assign(outputs, 0);
  } else if (Status ok = append_numbers(offset->is_number() ? Json::array({*offset}) : *offset, "offset", model.offset); !ok) {
    return base::pass(ok);
  }
  if (model.offset.size() != outputs) return base::fail("\"offset\" has {} numbers for {} output{}", model.offset.size(), outputs, outputs == 1 ? "" : "s");
  return outputs;
}

Result<Link> read_link(const Json& json, size_t outputs) {
  const auto found = json.find("link");
  if (found == json.end() || found->is_null()) return Link::kIdentity;
  static const std::map<std::string, Link> kLinks{{"identity", Link::kIdentity}, {"logistic", Link::kLogistic}, {"softmax", Link::kSoftmax}, {"exponential", Link::kExponential}};
  const auto link = found->is_string() ? kLinks.find(found->get<std::string>()) : kLinks.end();
  if (link == kLinks.end()) return base::fail("\"link\" is {}, which is none of identity, logistic, softmax, exponential", found->dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80));
  if (link->second == Link::kSoftmax && outputs < 2) return base::fail("softmax is a link between several outputs; there is one");
  return link->second;
}

// Names alone stand for numbers, as in a schema without categories.
Result<TableSchema> read_columns(const Json& json) {
  Json schema = {{"features", json.at("features")}};
  if (!schema["features"].is_array()) return base::fail("\"features\" is no list");
  for (Json& feature : schema["features"]) {
    if (feature.is_string()) feature = {{"name", feature}};
  }
  if (json.contains("target")) schema["target"] = json.at("target");
  if (json.contains("outputs") && json.at("outputs").is_array() && json.at("outputs").size() > 1) schema["classes"] = json.at("outputs");
  return read_schema(schema);
}

Result<std::vector<std::string>> read_outputs(const Json& json, size_t outputs, const TableSchema& schema) {
  const auto found = json.find("outputs");
  if (found == json.end() || found->is_null()) return output_names(schema, outputs);
  if (!found->is_array() || found->size() != outputs) return base::fail("\"outputs\" is no list of {} names", outputs);
  std::vector<std::string> names;
  for (const Json& name : *found) {
    if (!name.is_string() || name.get_ref<const std::string&>().empty()) return base::fail("\"outputs\" holds what is no name");
    names.push_back(name.get<std::string>());
  }
  return names;
}

std::vector<double> scores_by_weights(std::span<const double> weights, std::span<const double> offset, std::span<const double> rows) {
  const size_t outputs = offset.size(), width = weights.size() / outputs, count = rows.size() / width;
  std::vector<double> scores(count * outputs);
  for (size_t r = 0; r < count; ++r) {
    for (size_t o = 0; o < outputs; ++o) {
      double score = offset[o];
      for (size_t j = 0; j < width; ++j) score += weights[o * width + j] * rows[r * width + j];
      scores[r * outputs + o] = score;
    }
  }
  return scores;
}

}  // namespace

Result<TableModel> open_linear(const base::fs::path& path, const KnownColumns& known) {
  auto json = base::read_json_file(path, kLargestFile);
  if (!json) return base::pass(json);
  if (!json->is_object()) return base::fail("this JSON is no model: it is no object");
  TableModel model{.kind = "linear"};
  auto outputs = read_weights(*json, model);
  if (!outputs) return base::pass(outputs);
  auto link = read_link(*json, *outputs);
  if (!link) return base::pass(link);
  model.link = *link;
  const size_t width = model.weights.size() / *outputs;
  ModelColumns columns{.names = {}, .categories = {}, .unread = {}, .generic = false, .count = width};
  TableSchema own;
  if (json->contains("features") && !json->at("features").is_null()) {
    auto schema = read_columns(*json);
    if (!schema) return base::pass(schema);
    own = std::move(*schema);
    if (own.features.size() != width) return base::fail("there are {} features for {} weights", own.features.size(), width);
    for (FeatureText& feature : own.features) {
      columns.names.push_back(feature.name);
      columns.categories.push_back(feature.categories);
    }
  }
  auto features = coded_features(known, columns);
  if (!features) return base::pass(features);
  auto names = read_outputs(*json, *outputs, known.schema);
  if (!names) return base::pass(names);
  model.features = std::move(*features);
  model.outputs = std::move(*names);
  model.target = own.target.empty() ? base::value_or<std::string>(*json, "target", known.schema.target) : own.target;
  model.score = [weights = model.weights, offset = model.offset](std::span<const double> rows) -> Result<std::vector<double>> { return scores_by_weights(weights, offset, rows); };
  model.gradient = [weights = model.weights, width](std::span<const double> rows, int64_t output) -> Result<std::vector<double>> {
    std::vector<double> gradients(rows.size());
    for (size_t i = 0; i < rows.size(); ++i) gradients[i] = weights[static_cast<size_t>(output) * width + i % width];
    return gradients;
  };
  return model;
}

}  // namespace deepseek::explain
