#include "explain/reliance/augment_table.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "base/json.h"
#include "base/random.h"
#include "base/text.h"
#include "explain/reliance/tables.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using formats::Column;
using formats::Table;
using Json = nlohmann::ordered_json;

constexpr size_t kMostSteps = 32;
constexpr double kMostStrength = 16;
constexpr double kMostCopies = 4;  // of a row by one step; more strength is more weight
constexpr double kMostRows = 0x1p31;

// A step that was read and checked.
struct Step {
  bool resample = false;
  std::vector<size_t> columns;  // of the table
  double strength = 1;
  bool same_class = false;
};

Status check_fields(const Json& step, std::initializer_list<std::string_view> known) {
  for (const auto& [name, value] : step.items()) {
    if (std::find(known.begin(), known.end(), name) == known.end()) return base::refuse("there is no '{}' in such a step", name);
  }
  return {};
}

Result<size_t> column_named(const Table& table, const std::string& target, const Json& name) {
  if (!name.is_string()) return base::refuse("a column is named by a text");
  const auto& text = name.get_ref<const std::string&>();
  if (text == target) return base::refuse("the column '{}' is the target", text);
  std::vector<std::string> names;
  for (const Column& column : table.columns) names.push_back(column.name);
  const auto found = std::find(names.begin(), names.end(), text);
  if (found != names.end()) return static_cast<size_t>(found - names.begin());
  return base::refuse("the table has no column '{}'{}", text, base::is_meant(text, names));
}

Result<double> strength_of(const Json& step, double most) {
  const auto found = step.find("strength");
  if (found == step.end() || !found->is_number()) return base::refuse("'strength' is no number");
  const auto strength = found->get<double>();
  if (!(strength > 0 && strength <= most)) return base::refuse("a strength lies above 0 and is at most {}; {} is not", most, strength);
  return strength;
}

Result<Step> read_resample(const Table& table, const Column& target, const Json& json) {
  if (Status ok = check_fields(json, {"step", "columns", "strength", "donors"}); !ok) return base::pass(ok);
  Step step{.resample = true};
  const auto columns = json.find("columns");
  if (columns == json.end() || !columns->is_array() || columns->empty()) return base::refuse("'columns' is no list of names");
  std::set<size_t> seen;
  for (const Json& name : *columns) {
    auto column = column_named(table, target.name, name);
    if (!column) return base::pass(column);
    if (!seen.insert(*column).second) return base::refuse("the column '{}' is there twice", table.columns[*column].name);
    step.columns.push_back(*column);
  }
  auto strength = strength_of(json, kMostStrength);
  if (!strength) return base::pass(strength);
  step.strength = *strength;
  if (const auto donors = json.find("donors"); donors != json.end()) {
    if (*donors != "any" && *donors != "same class") return base::refuse("'donors' is \"any\" or \"same class\"");
    step.same_class = *donors == "same class";
  }
  if (step.same_class && std::set<double>(target.values.begin(), target.values.end()).size() > 1000) return base::refuse("donors of the same class need a target of classes; '{}' has none", target.name);
  return step;
}

Result<Step> read_reweigh(const Table& table, const Column& target, const Json& json) {
  if (Status ok = check_fields(json, {"step", "column", "strength"}); !ok) return base::pass(ok);
  const auto name = json.find("column");
  auto column = column_named(table, target.name, name == json.end() ? Json() : *name);
  if (!column) return base::pass(column);
  auto strength = strength_of(json, 1);
  if (!strength) return base::pass(strength);
  return Step{.columns = {*column}, .strength = *strength};
}

Result<std::vector<Step>> read_steps(const Table& table, const Column& target, const Json& plan) {
  const auto list = plan.is_object() ? plan.find("steps") : plan.end();
  if (!plan.is_object() || list == plan.end() || !list->is_array()) return base::refuse("a plan is a JSON object with a list of 'steps'");
  if (list->size() > kMostSteps) return base::refuse("a plan of {} steps; {} are the most", list->size(), kMostSteps);
  std::vector<Step> steps;
  for (size_t i = 0; i < list->size(); ++i) {
    const Json& json = (*list)[i];
    const auto kind = json.is_object() ? base::value_or<std::string>(json, "step", "") : "";
    auto step = kind == "resample" ? read_resample(table, target, json) : kind == "reweigh" ? read_reweigh(table, target, json) : Result<Step>(base::refuse("'step' is \"resample\" or \"reweigh\""));
    if (!step) return base::within(fmt::format("step {} of the plan", i + 1), step.error());
    steps.push_back(std::move(*step));
  }
  return steps;
}

// The values of a column as few numbers: categories, or tenths of the rows; missing is one too.
std::vector<size_t> cells_of(const Column& column) {
  std::vector<double> sorted;
  for (const double v : column.values) {
    if (!std::isnan(v)) sorted.push_back(v);
  }
  std::sort(sorted.begin(), sorted.end());
  const bool as_is = std::set<double>(sorted.begin(), sorted.end()).size() <= 10 || !column.is_number();
  std::vector<double> bounds;
  if (as_is) std::unique_copy(sorted.begin(), sorted.end(), std::back_inserter(bounds));
  for (size_t i = 1; !as_is && i < 10; ++i) bounds.push_back(sorted[sorted.size() * i / 10]);
  std::vector<size_t> cells;
  for (const double v : column.values) cells.push_back(std::isnan(v) ? 0 : 1 + static_cast<size_t>(std::upper_bound(bounds.begin(), bounds.end(), v) - bounds.begin()));
  return cells;
}

// Rows without a target take no part: they neither count nor train.
void reweigh(const Table& table, const Column& target, const Step& step, std::span<double> weights) {
  const auto column = cells_of(table.columns[step.columns[0]]), outcome = cells_of(target);
  std::map<size_t, double> of_column, of_outcome;
  std::map<std::pair<size_t, size_t>, double> of_both;
  double rows = 0;
  for (size_t r = 0; r < column.size(); ++r) {
    if (std::isnan(target.values[r])) continue;
    ++of_column[column[r]];
    ++of_outcome[outcome[r]];
    ++of_both[{column[r], outcome[r]}];
    ++rows;
  }
  for (size_t r = 0; r < column.size(); ++r) {
    if (!std::isnan(target.values[r])) weights[r] *= std::pow(of_column[column[r]] * of_outcome[outcome[r]] / (rows * of_both[{column[r], outcome[r]}]), step.strength);
  }
}

// For each row the row whose columns its copy takes.
std::vector<int64_t> donors_of(const Column& target, bool same_class, base::SplitMix64& draw) {
  std::map<double, std::vector<int64_t>> of_class;
  const auto rows = static_cast<int64_t>(target.values.size());
  for (int64_t r = 0; same_class && r < rows; ++r) {
    if (const double y = target.values[static_cast<size_t>(r)]; !std::isnan(y)) of_class[y].push_back(r);
  }
  std::vector<int64_t> donors;
  for (int64_t r = 0; r < rows; ++r) {
    const double y = target.values[static_cast<size_t>(r)], u = draw.uniform();
    if (same_class && !std::isnan(y)) {
      const auto& like = of_class[y];
      donors.push_back(like[static_cast<size_t>(u * static_cast<double>(like.size()))]);
    } else {
      donors.push_back(static_cast<int64_t>(u * static_cast<double>(rows)));
    }
  }
  return donors;
}

}  // namespace

Result<AugmentedTable> augment_table(const Table& table, const std::string& target, const Json& plan, uint64_t seed) {
  const Column* outcome = table.find(target);
  if (outcome == nullptr) return base::refuse("the table has no column '{}' to be the target", target);
  auto steps = read_steps(table, *outcome, plan);
  if (!steps) return base::pass(steps);
  const auto rows = static_cast<size_t>(table.rows);
  double all = static_cast<double>(rows);
  for (const Step& step : *steps) all += step.resample ? static_cast<double>(rows) * std::min(kMostCopies, std::ceil(step.strength)) : 0;
  if (all > kMostRows) return base::refuse("the plan makes {:.0f} rows; {:.0f} are the most", all, kMostRows);
  AugmentedTable augmented{.table = table, .weights = std::vector<double>(rows, 1), .sources = std::vector<int64_t>(rows)};
  std::iota(augmented.sources.begin(), augmented.sources.end(), int64_t{0});
  for (const Step& step : *steps) {
    if (!step.resample) reweigh(table, *outcome, step, std::span(augmented.weights).first(rows));
  }
  base::SplitMix64 draw{seed};
  for (const Step& step : *steps) {
    if (!step.resample) continue;
    const double copies = std::min(kMostCopies, std::ceil(step.strength));
    for (int copy = 0; copy < static_cast<int>(copies); ++copy) {
      const auto donors = donors_of(*outcome, step.same_class, draw);
      for (size_t c = 0; c < table.columns.size(); ++c) {
        const std::vector<double>& from = table.columns[c].values;
        std::vector<double>& to = augmented.table.columns[c].values;
        const bool drawn = std::find(step.columns.begin(), step.columns.end(), c) != step.columns.end();
        for (size_t r = 0; r < rows; ++r) to.push_back(from[drawn ? static_cast<size_t>(donors[r]) : r]);
      }
      for (size_t r = 0; r < rows; ++r) augmented.sources.push_back(static_cast<int64_t>(r));
      augmented.weights.insert(augmented.weights.end(), rows, step.strength / copies);
      augmented.table.rows += table.rows;
    }
  }
  return augmented;
}

Result<Json> read_plan(const base::fs::path& path) { return base::read_json_file(path); }

}  // namespace deepseek::explain
