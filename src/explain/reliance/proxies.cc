#include "explain/reliance/proxies.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "explain/explainer.h"
#include "explain/intervals.h"
#include "explain/reliance/shares.h"
#include "explain/reliance/tables.h"

namespace deepseek::explain {
namespace {

using base::Result;
using formats::Table;
using Json = nlohmann::ordered_json;

// |value| of each feature in each row, added over the outputs.
Result<std::vector<double>> sizes_of(const TableModel& model, const std::vector<double>& rows, const std::vector<double>& background, const ProxyOptions& o) {
  const auto names = names_of(model.features);
  const FeatureTree tree = flat_tree(names);
  const auto leaves = tree.leaves();
  const size_t width = names.size(), nodes = tree.nodes.size();
  std::vector<double> sizes(rows.size());
  if (model.trees) {  // all outputs at once
    const auto some = rows_sampled(background, width, o.background, o.seed + 1);
    const auto found = tree_winter(*model.trees, tree, rows, {.background = some, .threads = o.threads});
    const size_t outputs = model.outputs.size();
    for (size_t r = 0; r < rows.size() / width; ++r) {
      for (size_t of = 0; of < outputs; ++of) {
        for (size_t j = 0; j < width; ++j) sizes[r * width + j] += std::abs(found.values[(r * outputs + of) * nodes + static_cast<size_t>(leaves[j])]);
      }
    }
    return sizes;
  }
  auto explainer = Explainer::create(model, tree, background, {.background = o.background, .budget = 8 * static_cast<int64_t>(width) + 64, .pairs = 0, .seed = o.seed, .threads = o.threads});
  if (!explainer) return base::pass(explainer);
  for (size_t of = 0; of < model.outputs.size(); ++of) {
    if (base::Status ok = explainer->choose_output(static_cast<int64_t>(of)); !ok) return base::pass(ok);
    auto global = explainer->explain_all(rows, {}, o.stop_requested);
    if (!global) return base::pass(global);
    for (size_t r = 0; r < global->rows.size(); ++r) {
      for (size_t j = 0; j < width; ++j) sizes[r * width + j] += std::abs(global->rows[r].values[static_cast<size_t>(leaves[j])]);
    }
  }
  return sizes;
}

}  // namespace

Result<ProxyReport> find_proxies(const Table& table, const std::string& feature, const ProxyOptions& options) {
  if (feature == options.target) return base::refuse("'{}' is the target; proxies are those of a feature", feature);
  Table others = table_without(table, options.target);
  others = rows_of_table(others, base::some_of(others.rows, options.most_rows, options.seed));
  auto fitted = fit_table(others, feature, {.learner = options.learner, .rounds = options.rounds, .seed = options.seed, .threads = options.threads, .stop_requested = options.stop_requested});
  if (!fitted) return base::pass(fitted);
  ProxyReport found{.feature = feature, .report = fitted->report};
  const bool is_number = fitted->report.at("task") == "regression";
  found.measure = is_number ? "r2" : "accuracy";
  found.reached = fitted->report.value(found.measure, 0.0);
  found.without = fitted->report.value("majority", 0.0);
  found.skill = found.without < 1 ? (found.reached - found.without) / (1 - found.without) : 0;
  if (!(found.skill > 0)) return found;
  auto rows = rows_of(others, fitted->model.features);
  if (!rows) return base::pass(rows);
  const size_t width = fitted->model.features.size();
  const auto explained = rows_sampled(rows->rows, width, options.explained, options.seed + 2);
  auto sizes = sizes_of(fitted->model, explained, rows->rows, options);
  if (!sizes) return base::pass(sizes);
  std::vector<double> totals(explained.size() / width);
  for (size_t i = 0; i < sizes->size(); ++i) totals[i / width] += (*sizes)[i];
  const auto shares = shares_of(*sizes, totals, {}, two_sided(0.95));
  for (size_t j = 0; j < width; ++j) {
    if (shares[j].share > 0) found.proxies.push_back({fitted->model.features[j].name, shares[j].share, shares[j].half_width});
  }
  std::stable_sort(found.proxies.begin(), found.proxies.end(), [](const Proxy& a, const Proxy& b) { return a.share > b.share; });
  if (found.proxies.size() > options.most) found.proxies.resize(options.most);
  return found;
}

Json proxies_json(const ProxyReport& report) {
  Json json = {{"feature", report.feature}, {"measure", report.measure}, {"reached", report.reached}, {"without", report.without}, {"skill", report.skill}};
  if (report.report.contains("auc")) json["auc"] = report.report["auc"];
  json["proxies"] = Json::array();
  for (const Proxy& proxy : report.proxies) json["proxies"].push_back({{"feature", proxy.feature}, {"share", proxy.share}, {"half_width", proxy.half_width}});
  return json;
}

}  // namespace deepseek::explain
