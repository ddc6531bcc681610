#include "explain/scorers/columns.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/text.h"

namespace deepseek::explain {
namespace {

using base::Result;

const FeatureText* named(std::span<const FeatureText> features, const std::string& name) {
  const auto found = std::find_if(features.begin(), features.end(), [&](const FeatureText& f) { return f.name == name; });
  return found == features.end() ? nullptr : &*found;
}

// LightGBM writes blanks in names as underscores.
const FeatureText* meant(std::span<const FeatureText> features, const std::string& name) {
  if (const FeatureText* found = named(features, name)) return found;
  const FeatureText* only = nullptr;
  for (const FeatureText& feature : features) {
    std::string joined = feature.name;
    std::replace(joined.begin(), joined.end(), ' ', '_');
    if (joined != name) continue;
    if (only != nullptr) return nullptr;
    only = &feature;
  }
  return only;
}

bool holds_words(const FeatureText& feature) {
  return std::any_of(feature.categories.begin(), feature.categories.end(), [](const std::string& text) { return !formats::number_in(text); });
}

Result<std::vector<FeatureText>> in_order(const KnownColumns& known, size_t count) {
  const auto& features = known.schema.features;
  const char* whose = known.from_file ? "the schema file" : "the data";
  if (features.empty()) return base::refuse("the model names no columns, and there is no data or schema file to take them from");
  if (count > 0 && count != features.size()) {
    return base::refuse("the model names no columns and reads {}; {} has {}: give a schema file with the features of the model in their order", count, whose, features.size());
  }
  return features;
}

Result<std::vector<FeatureText>> by_name(const KnownColumns& known, const std::vector<std::string>& names) {
  std::vector<FeatureText> found;
  for (const std::string& name : names) {
    const FeatureText* feature = meant(known.schema.features, name);
    if (feature == nullptr && known.from_file) return base::fail("the schema file has no feature '{}', which the model reads", name);
    found.push_back(feature == nullptr ? FeatureText{.name = name, .categories = {}} : *feature);
  }
  return found;
}

bool is_set(const std::vector<uint8_t>& flags, size_t j) { return j < flags.size() && flags[j] != 0; }

}  // namespace

Result<KnownColumns> known_columns(const ScorerOptions& options) {
  KnownColumns known{.schema = {.features = options.features, .target = options.target, .classes = {}}};
  if (options.schema.empty()) return known;
  auto json = base::read_json_file(options.schema);
  if (!json) return base::pass(json);
  auto schema = read_schema(*json);
  if (!schema) return base::within(options.schema.string(), schema.error());
  known.schema = std::move(*schema);
  if (known.schema.target.empty()) known.schema.target = options.target;
  known.from_file = true;
  return known;
}

Result<std::vector<FeatureText>> coded_features(const KnownColumns& known, const ModelColumns& model) {
  const auto is_known = [&](const std::string& name) { return named(known.schema.features, name) != nullptr; };
  const bool as_they_come = model.names.empty() || (model.generic && !known.schema.features.empty() && !std::all_of(model.names.begin(), model.names.end(), is_known));
  auto features = as_they_come ? in_order(known, std::max(model.count, model.names.size())) : by_name(known, model.names);
  if (!features) return features;
  for (size_t j = 0; j < features->size(); ++j) {
    FeatureText& feature = (*features)[j];
    if (j < model.categories.size() && !model.categories[j].empty()) {
      feature.categories = model.categories[j];
    } else if (!known.from_file && !is_set(model.unread, j)) {
      if (holds_words(feature)) {
        return base::refuse("the column '{}' holds text, such as '{}', and the model does not say which number it learnt for each: give a schema file with its categories in the order of their codes",
                            feature.name, *std::find_if(feature.categories.begin(), feature.categories.end(), [](const std::string& text) { return !formats::number_in(text); }));
      }
      feature.categories.clear();  // texts that are numbers, which the model reads as such
    }
  }
  return features;
}

std::vector<std::string> output_names(const TableSchema& schema, size_t count) {
  if (count == 1) return {schema.classes.size() == 2 ? schema.classes[1] : schema.target.empty() ? "score" : schema.target};
  if (schema.classes.size() == count) return schema.classes;
  std::vector<std::string> names;
  for (size_t o = 0; o < count; ++o) names.push_back(fmt::format("output {}", o));
  return names;
}

std::vector<double> probe_row(const ScorerOptions& options, std::span<const FeatureText> features) {
  std::vector<double> row(features.size());
  if (options.probe.size() != options.features.size()) return row;
  for (size_t j = 0; j < features.size(); ++j) {
    const FeatureText* from = named(options.features, features[j].name);
    if (from == nullptr) continue;
    const double value = options.probe[static_cast<size_t>(from - options.features.data())];
    if (features[j].categories.empty() && from->categories.empty()) {
      row[j] = value;
    } else if (!std::isnan(value)) {
      const std::string text = display(*from, value);
      const auto found = std::find(features[j].categories.begin(), features[j].categories.end(), text);
      if (found != features[j].categories.end()) row[j] = static_cast<double>(found - features[j].categories.begin());
      else if (features[j].categories.empty()) row[j] = formats::number_in(text).value_or(0);
    }
  }
  return row;
}

}  // namespace deepseek::explain
