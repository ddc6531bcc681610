// Models of XGBoost and LightGBM, with the texts of their categories where the file holds them.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/text.h"
#include "explain/scorers/kinds.h"
#include "explain/tree_scorer.h"

namespace deepseek::explain {
namespace {

using base::Result;
using Json = nlohmann::json;
using Texts = std::vector<std::vector<std::string>>;

constexpr size_t kLargestFile = size_t{1} << 30;

bool counts_columns(const std::vector<std::string>& names, std::string_view prefix) {
  for (size_t j = 0; j < names.size(); ++j) {
    if (names[j] != fmt::format("{}{}", prefix, j)) return false;
  }
  return true;
}

std::vector<uint8_t> unread_features(const TreeEnsemble& trees) {
  std::vector<uint8_t> unread(trees.features.size(), 1);
  for (const Tree& tree : trees.trees) {
    for (const TreeNode& node : tree.nodes) {
      if (node.feature >= 0) unread[static_cast<size_t>(node.feature)] = 0;
    }
  }
  return unread;
}

// A category as a CSV file of the same table writes it. Nothing for what has no text.
std::string text_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";  // as pandas does
  if (value.is_number_float()) return fmt::format("{}", value.get<double>());
  return value.is_number() ? value.dump() : "";
}

// ---- LightGBM: `pandas_categorical:[["a","b"],[1,2]]` has a list for each column of pandas' type category, in their order, and no names ----

std::string_view line_after(std::string_view content, std::string_view start) {
  const size_t at = content.rfind(start);
  if (at == std::string_view::npos) return {};
  const std::string_view line = content.substr(at + start.size());
  return line.substr(0, std::min(line.find_first_of("\r\n"), line.size()));
}

// The columns that were learnt as categories: feature_infos holds their codes ("-1:0:2"), of numbers a range ("[0:1]"), "none" of a column of one value.
struct CategoricalColumns {
  std::vector<size_t> sure, with_none;
  size_t count = 0;
};

CategoricalColumns categorical_columns(std::string_view infos) {
  CategoricalColumns found;
  while (!infos.empty()) {
    const std::string_view info = infos.substr(0, infos.find(' '));
    infos.remove_prefix(std::min(info.size() + 1, infos.size()));
    if (!info.empty() && info.front() != '[') {
      if (info != "none") found.sure.push_back(found.count);
      found.with_none.push_back(found.count);
    }
    ++found.count;
  }
  return found;
}

Texts lightgbm_categories(std::string_view content, size_t features) {
  const auto lists = base::parse_large_json(line_after(content, "\npandas_categorical:"), 4);
  if (!lists || !lists->is_array() || lists->empty()) return {};
  const std::string_view header = content.substr(0, content.find("\nTree="));
  const CategoricalColumns columns = categorical_columns(line_after(header, "\nfeature_infos="));
  const std::vector<size_t>& which = lists->size() == columns.sure.size() ? columns.sure : columns.with_none;
  if (columns.count != features || which.size() != lists->size()) return {};  // ordered categories, or columns of integers: which list is whose is not said
  Texts texts(features);
  for (size_t i = 0; i < which.size(); ++i) {
    if (!(*lists)[i].is_array()) return {};
    for (const Json& value : (*lists)[i]) texts[which[i]].push_back(text_of(value));
  }
  return texts;
}

// ---- XGBoost from 3.1: learner.gradient_booster.model.cats has for each column nothing, numbers, or texts as bytes with offsets ----

std::vector<std::string> xgboost_column(const Json& column) {
  std::vector<std::string> texts;
  const Json& values = column.at("values");
  const auto offsets = column.find("offsets");
  if (offsets == column.end()) {
    for (const Json& value : values) texts.push_back(text_of(value));
    return texts;
  }
  std::string bytes;
  for (const Json& value : values) bytes.push_back(static_cast<char>(value.get<int>()));
  for (size_t i = 0; i + 1 < offsets->size(); ++i) {
    const auto from = (*offsets)[i].get<size_t>(), to = (*offsets)[i + 1].get<size_t>();
    if (from > to || to > bytes.size()) return {};
    texts.push_back(bytes.substr(from, to - from));
  }
  return texts;
}

Texts xgboost_categories(std::string_view content, size_t features) {
  Texts texts(features);
  if (content.find("cats") == std::string_view::npos) return texts;  // an older file: a second pass over its trees would find nothing
  try {
    const bool is_text = content.size() > 1 && std::string_view("\" \t\r\n").find(content[1]) != std::string_view::npos;
    const Json json = is_text ? Json::parse(content) : Json::from_ubjson(content);
    const Json* booster = &json.at("learner").at("gradient_booster");
    if (booster->contains("gbtree")) booster = &booster->at("gbtree");
    const Json& columns = booster->at("model").at("cats").at("enc");
    for (size_t j = 0; j < std::min(columns.size(), features); ++j) texts[j] = xgboost_column(columns[j]);
  } catch (const std::exception&) {  // an older file, which has none
    return {};
  }
  return texts;
}

// Texts that cannot tell categories apart are none.
void drop_unfit(Texts& texts) {
  for (auto& column : texts) {
    std::vector<std::string_view> sorted(column.begin(), column.end());
    std::sort(sorted.begin(), sorted.end());
    const bool twice = std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end();
    if (twice || std::any_of(column.begin(), column.end(), [](const std::string& text) { return text.empty() || !base::is_utf8(text); })) column.clear();
  }
}

Texts categories_in(std::string_view content, const TreeEnsemble& trees) {
  Texts texts = trees.kind == "LightGBM" ? lightgbm_categories(content, trees.features.size()) : xgboost_categories(content, trees.features.size());
  drop_unfit(texts);
  return texts;
}

}  // namespace

Result<TableModel> open_trees(const base::fs::path& path, const KnownColumns& known) {
  auto content = base::read_file(path, kLargestFile);
  if (!content) return base::pass(content);
  auto read = parse_tree_ensemble(*content);
  if (!read) return base::pass(read);
  auto trees = std::make_shared<TreeEnsemble>(std::move(*read));
  const std::string_view prefix = trees->kind == "LightGBM" ? "Column_" : "f";
  auto features = coded_features(
      known,
      {.names = trees->features, .categories = categories_in(*content, *trees), .unread = unread_features(*trees), .generic = counts_columns(trees->features, prefix)});
  if (!features) return base::pass(features);
  TableModel model{.kind = trees->kind,
                   .features = std::move(*features),
                   .outputs = output_names(known.schema, trees->base.size()),
                   .target = known.schema.target,
                   .link = trees->link};
  for (size_t j = 0; j < model.features.size(); ++j) trees->features[j] = model.features[j].name;
  model.score = [scorer = std::make_shared<const TreeScorer>(trees)](std::span<const double> rows) -> Result<std::vector<double>> { return (*scorer)(rows); };
  model.trees = trees;
  return model;
}

}  // namespace deepseek::explain
