#include "explain/table_schema.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "base/text.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using formats::Column;
using formats::Table;
using Json = nlohmann::ordered_json;

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kMostNamed = 5;  // columns in one note

std::string short_number(double value) {
  return value == std::floor(value) && std::abs(value) < 1e15 ? fmt::format("{}", static_cast<int64_t>(value)) : fmt::format("{:.6g}", value);
}

std::string quoted(const std::vector<std::string>& names) {
  std::string out;
  for (size_t i = 0; i < std::min(names.size(), kMostNamed); ++i) out += (i == 0 ? "'" : ", '") + names[i] + "'";
  return names.size() > kMostNamed ? fmt::format("{} and {} more", out, names.size() - kMostNamed) : out;
}

std::string meant_among(const Table& table, const std::string& name) {
  std::vector<std::string> names;
  for (const Column& column : table.columns) names.push_back(column.name);
  return base::is_meant(name, names);
}

// Texts that are there once and not empty.
Result<std::vector<std::string>> texts_in(const Json& json, const std::string& what) {
  if (!json.is_array()) return base::fail("{} are no list", what);
  std::vector<std::string> texts;
  std::set<std::string> seen;
  for (const Json& item : json) {
    if (!item.is_string() || item.get_ref<const std::string&>().empty()) return base::fail("{} hold what is no text", what);
    texts.push_back(item.get<std::string>());
    if (!seen.insert(texts.back()).second) return base::fail("{} hold '{}' twice", what, texts.back());
  }
  return texts;
}

Result<FeatureText> read_feature(const Json& json) {
  if (!json.is_object()) return base::fail("a feature is no JSON object");
  const auto name = json.find("name");
  if (name == json.end() || !name->is_string() || name->get_ref<const std::string&>().empty()) return base::fail("a feature has no name");
  FeatureText feature{.name = name->get<std::string>()};
  if (const auto categories = json.find("categories"); categories != json.end() && !categories->is_null()) {
    auto texts = texts_in(*categories, fmt::format("the categories of '{}'", feature.name));
    if (!texts) return base::pass(texts);
    feature.categories = std::move(*texts);
  }
  return feature;
}

// One column of a table in the codes of a feature: code of the table, or number -> what the model reads.
class Recoder {
 public:
  explicit Recoder(const FeatureText& feature) : feature_(feature) {}

  Status read(const Column& column) {
    if (column.is_number()) {
      if (!feature_.categories.empty()) know_numbers();
      return {};
    }
    return feature_.categories.empty() ? numbers_of(column) : codes_of(column);
  }

  double operator()(const Column& column, double value) {
    if (std::isnan(value)) return kMissing;
    double to = value;
    if (!column.is_number()) {
      to = by_code_[static_cast<size_t>(value)];
    } else if (!feature_.categories.empty()) {
      const auto found = by_number_.find(value == 0 ? 0.0 : value);
      to = found == by_number_.end() ? kMissing : found->second;
    }
    if (std::isnan(to) && !feature_.categories.empty() && unknown_++ == 0) example_ = column.is_number() ? short_number(value) : column.categories[static_cast<size_t>(value)];
    return to;
  }

  [[nodiscard]] std::string note() const {
    if (unknown_ == 0) return "";
    return fmt::format("column '{}': {} value{} no category that the model knows, such as '{}'; counted as missing", feature_.name, base::with_commas(unknown_),
                       unknown_ == 1 ? " is" : "s are", example_);
  }

 private:
  // The category whose text is the number comes before others of the same value.
  void know_numbers() {
    for (size_t c = 0; c < feature_.categories.size(); ++c) {
      const std::string& text = feature_.categories[c];
      const auto number = formats::number_in(text);
      if (!number) continue;
      const double key = *number == 0 ? 0.0 : *number;
      if (text == fmt::format("{}", key) || text == short_number(key)) by_number_[key] = static_cast<double>(c);
      else by_number_.emplace(key, static_cast<double>(c));
    }
  }

  Status codes_of(const Column& column) {
    std::unordered_map<std::string_view, size_t> known;
    for (size_t c = 0; c < feature_.categories.size(); ++c) known.emplace(feature_.categories[c], c);
    for (const std::string& text : column.categories) {
      const auto found = known.find(text);
      by_code_.push_back(found == known.end() ? kMissing : static_cast<double>(found->second));
    }
    return {};
  }

  // A column that was read as text, or has a word in one row.
  Status numbers_of(const Column& column) {
    for (const std::string& text : column.categories) {
      const auto number = formats::number_in(text);
      if (!number) return base::fail("the column '{}' holds text, such as '{}', where the model wants numbers", column.name, text);
      by_code_.push_back(std::isfinite(*number) ? *number : kMissing);
    }
    return {};
  }

  const FeatureText& feature_;
  std::vector<double> by_code_;
  std::unordered_map<double, double> by_number_;
  size_t unknown_ = 0;
  std::string example_;
};

Result<std::vector<const Column*>> columns_of(const Table& table, std::span<const FeatureText> features) {
  std::unordered_map<std::string_view, const Column*> by_name;
  for (const Column& column : table.columns) by_name.emplace(column.name, &column);
  std::vector<const Column*> columns;
  std::vector<std::string> absent;
  for (const FeatureText& feature : features) {
    const auto found = by_name.find(feature.name);
    if (found == by_name.end()) absent.push_back(feature.name);
    else columns.push_back(found->second);
  }
  if (absent.size() == 1) return base::fail("the table has no column '{}', which the model reads{}", absent[0], meant_among(table, absent[0]));
  if (absent.size() > 1) return base::fail("the table has no columns {}, which the model reads", quoted(absent));
  return columns;
}

bool is_constant(const Column& column) {
  const auto first = std::find_if(column.values.begin(), column.values.end(), [](double v) { return !std::isnan(v); });
  return first == column.values.end() || std::all_of(first, column.values.end(), [&](double v) { return std::isnan(v) || v == *first; });
}

}  // namespace

Result<TableSchema> schema_of(const Table& table, const std::string& target) {
  TableSchema schema{.target = target};
  bool found = target.empty();
  for (const Column& column : table.columns) {
    if (!target.empty() && column.name == target) {
      schema.classes = column.categories;
      found = true;
    } else {
      schema.features.push_back({.name = column.name, .categories = column.categories});
    }
  }
  if (!found) {
    std::vector<std::string> names;
    for (const Column& column : table.columns) names.push_back(column.name);
    const std::string meant = meant_among(table, target);
    return base::refuse("the table has no column '{}' to be the target{}", target, meant.empty() ? fmt::format("; it has {}", quoted(names)) : meant);
  }
  return schema;
}

Json schema_json(const TableSchema& schema) {
  Json features = Json::array();
  for (const FeatureText& feature : schema.features) {
    Json item = {{"name", feature.name}};
    if (!feature.categories.empty()) item["categories"] = feature.categories;
    features.push_back(std::move(item));
  }
  Json json = {{"features", std::move(features)}};
  if (!schema.target.empty()) json["target"] = schema.target;
  if (!schema.classes.empty()) json["classes"] = schema.classes;
  return json;
}

Result<TableSchema> read_schema(const Json& json) {
  if (!json.is_object()) return base::fail("a schema is a JSON object");
  const auto features = json.find("features");
  if (features == json.end() || !features->is_array() || features->empty()) return base::fail("the schema has no list of features");
  TableSchema schema;
  std::set<std::string> names;
  for (const Json& item : *features) {
    auto feature = read_feature(item);
    if (!feature) return base::pass(feature);
    if (!names.insert(feature->name).second) return base::fail("the schema has the feature '{}' twice", feature->name);
    schema.features.push_back(std::move(*feature));
  }
  if (const auto target = json.find("target"); target != json.end() && !target->is_null()) {
    if (!target->is_string()) return base::fail("the schema's target is no name of a column");
    schema.target = target->get<std::string>();
    if (names.contains(schema.target)) return base::fail("the schema's target '{}' is one of its features", schema.target);
  }
  if (const auto classes = json.find("classes"); classes != json.end() && !classes->is_null()) {
    auto texts = texts_in(*classes, "the classes");
    if (!texts) return base::pass(texts);
    schema.classes = std::move(*texts);
  }
  return schema;
}

Result<FeatureRows> rows_of(const Table& table, std::span<const FeatureText> features) {
  if (features.empty()) return base::fail("the model names no features");
  auto columns = columns_of(table, features);
  if (!columns) return base::pass(columns);
  const size_t count = static_cast<size_t>(table.rows), width = features.size();
  FeatureRows out;
  out.rows.resize(count * width);
  std::vector<std::string> constant;
  for (size_t j = 0; j < width; ++j) {
    const Column& column = *(*columns)[j];
    Recoder recode(features[j]);
    if (Status ok = recode.read(column); !ok) return base::pass(ok);
    for (size_t r = 0; r < count; ++r) out.rows[r * width + j] = recode(column, column.values[r]);
    if (std::string note = recode.note(); !note.empty()) out.notes.push_back(std::move(note));
    if (count > 1 && is_constant(column)) constant.push_back(column.name);
  }
  if (constant.size() == 1) out.notes.push_back(fmt::format("column {} has one value in all rows", quoted(constant)));
  if (constant.size() > 1) out.notes.push_back(fmt::format("columns {} have one value in all rows", quoted(constant)));
  return out;
}

std::string display(const FeatureText& feature, double value) {
  if (std::isnan(value)) return "missing";
  if (value >= 0 && value < static_cast<double>(feature.categories.size()) && value == std::floor(value)) return feature.categories[static_cast<size_t>(value)];
  return short_number(value);
}

}  // namespace deepseek::explain
