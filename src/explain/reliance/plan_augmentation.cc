#include "explain/reliance/plan_augmentation.h"

#include <algorithm>
#include <cmath>

#include "explain/explainer.h"
#include "explain/reliance/augment_table.h"
#include "explain/reliance/reliance.h"
#include "explain/reliance/tables.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using formats::Table;
using Json = nlohmann::ordered_json;

constexpr double kFirstStrength = 1, kLeastStrength = 0.125, kMostStrength = 16;  // the last is what augment_table() takes
constexpr size_t kMostRisen = 5;
constexpr double kLeastRise = 0.01;

struct Trial {
  double strength = 0, reliance = 0, half_width = 0, quality = 0;
  std::vector<std::pair<std::string, double>> shares;  // of all features
};

class Search {
 public:
  Search(const Table& table, const std::string& target, const std::string& feature, const PlanOptions& options) : table_(table), target_(target), feature_(feature), options_(options) {}

  Result<Json> plan() {
    auto before = trial(0);
    if (!before) return base::pass(before);
    if (!(before->reliance > 0)) return base::refuse("the model that is trained on this table does not use '{}'; there is nothing to cut", feature_);
    before_ = *before;
    wanted_ = options_.target_reliance > 0 ? options_.target_reliance : before->reliance / 2;
    if (before->reliance > wanted_) {
      if (Status ok = search(); !ok) return base::pass(ok);
    }
    return document();
  }

 private:
  [[nodiscard]] Json steps_of(double strength) const {
    Json columns = Json::array({feature_});
    for (const std::string& name : options_.together) columns.push_back(name);
    Json steps = Json::array();
    if (options_.reweigh > 0) steps.push_back({{"step", "reweigh"}, {"column", feature_}, {"strength", options_.reweigh}});
    steps.push_back({{"step", "resample"}, {"columns", std::move(columns)}, {"strength", strength}, {"donors", "any"}});
    return steps;
  }

  [[nodiscard]] double lost(const Trial& trial) const { return before_.quality - trial.quality; }
  [[nodiscard]] bool is_enough(const Trial& trial) const { return trial.reliance <= wanted_; }
  [[nodiscard]] bool is_allowed(const Trial& trial) const { return lost(trial) <= options_.most_accuracy_lost; }

  Result<Trial> trial(double strength) {
    TrainTableOptions training = options_.training;
    Result<AugmentedTable> augmented = augment_table(table_, target_, {{"steps", strength > 0 ? steps_of(strength) : Json::array()}}, training.seed);
    if (!augmented) return base::pass(augmented);
    training.weights = augmented->weights;
    training.sources = augmented->sources;
    auto fitted = fit_table(augmented->table, target_, training);
    if (!fitted) return base::pass(fitted);
    measure_ = fitted->report.contains("accuracy") ? "accuracy" : "r2";
    Trial trial{.strength = strength, .quality = fitted->report.value(measure_, 0.0)};
    if (Status ok = measure(*fitted, trial); !ok) return base::pass(ok);
    trials_.push_back(trial);
    if (options_.on_trial && strength > 0) {
      options_.on_trial(fmt::format("strength {:.3g}: reliance {:.3f} instead of {:.3f}, {} {:.4f} instead of {:.4f}", strength, trial.reliance, before_.reliance, measure_, trial.quality, before_.quality));
    }
    return trial;
  }

  // The feature's share, over held-out rows and a background of the table as it is.
  Status measure(const FittedTable& fitted, Trial& trial) {
    auto rows = rows_of(table_, fitted.model.features);
    if (!rows) return base::pass(rows);
    const size_t width = fitted.model.features.size();
    const auto held_out = rows_at(rows->rows, static_cast<int64_t>(width), fitted.held_out);
    const auto names = names_of(fitted.model.features);
    const bool exact = fitted.model.trees != nullptr;
    const auto explained = rows_sampled(held_out, width, exact ? options_.explained : std::min<int64_t>(options_.explained, 100), options_.training.seed + 1);
    // A net's values are estimates; the rows, not they, make the interval of a mean wide.
    const ExplainOptions how{.background = exact ? options_.background : std::min<int64_t>(options_.background, 50), .budget = exact ? 0 : 16 * static_cast<int64_t>(width) + 64, .pairs = 0,
                             .seed = options_.training.seed, .threads = options_.training.threads};
    double squares = 0;
    for (const std::string& name : names) trial.shares.emplace_back(name, 0);
    const size_t outputs = fitted.model.outputs.size();
    auto explainer = Explainer::create(fitted.model, flat_tree(names), rows->rows, how);
    if (!explainer) return base::pass(explainer);
    for (size_t of = 0; of < outputs; ++of) {
      if (Status ok = explainer->choose_output(static_cast<int64_t>(of)); !ok) return ok;
      auto global = explainer->explain_all(explained, {}, options_.training.stop_requested);
      if (!global) return base::pass(global);
      auto reliance = find_reliance(*global, explainer->tree());
      if (!reliance) return base::pass(reliance);
      for (const NodeReliance& node : reliance->nodes) {
        const size_t feature = static_cast<size_t>(explainer->tree().nodes[static_cast<size_t>(node.node)].feature);
        trial.shares[feature].second += node.share / static_cast<double>(outputs);
        if (names[feature] == feature_) squares += node.half_width * node.half_width / static_cast<double>(outputs * outputs);
      }
    }
    for (const auto& [name, share] : trial.shares) trial.reliance = name == feature_ ? share : trial.reliance;
    trial.half_width = std::sqrt(squares);
    return {};
  }

  // Doubles or halves the strength until one cuts enough and its half does not, then tries once between those.
  Status search() {
    double enough = 0, short_of = 0;
    for (double strength = kFirstStrength; strength >= kLeastStrength && strength <= kMostStrength;) {
      auto found = trial(strength);
      if (!found) return base::pass(found);
      if (is_enough(*found)) enough = strength;
      else short_of = strength;
      if (enough > 0 && short_of > 0) break;
      if (enough == 0 && !is_allowed(*found)) break;  // more would lose more
      strength *= enough > 0 ? 0.5 : 2;
    }
    if (enough > 0 && short_of > 0) {
      if (auto found = trial(std::round(std::sqrt(enough * short_of) * 100) / 100); !found) return base::pass(found);
    }
    return {};
  }

  [[nodiscard]] const Trial& chosen() const {
    const Trial* best = nullptr;
    for (const Trial& t : trials_) {
      if (t.strength == 0 ? !is_enough(t) : !is_allowed(t)) continue;
      const bool better = best == nullptr || (is_enough(t) != is_enough(*best) ? is_enough(t) : is_enough(t) ? t.strength < best->strength : t.reliance < best->reliance);
      if (better) best = &t;
    }
    return best == nullptr ? trials_.front() : *best;
  }

  [[nodiscard]] Json json_of(const Trial& t) const { return {{"strength", t.strength}, {"reliance", t.reliance}, {"half_width", t.half_width}, {measure_, t.quality}}; }

  // The features whose share rose most: what the model leans on instead.
  [[nodiscard]] Json risen(const Trial& after) const {
    std::vector<std::pair<double, size_t>> rises;
    for (size_t j = 0; j < after.shares.size(); ++j) rises.emplace_back(before_.shares[j].second - after.shares[j].second, j);
    std::sort(rises.begin(), rises.end());
    Json list = Json::array();
    for (size_t i = 0; i < std::min(kMostRisen, rises.size()) && rises[i].first < -kLeastRise; ++i) {
      const size_t j = rises[i].second;
      list.push_back({{"feature", after.shares[j].first}, {"before", before_.shares[j].second}, {"after", after.shares[j].second}});
    }
    return list;
  }

  [[nodiscard]] Json document() const {
    const Trial& after = chosen();
    Json json = {{"feature", feature_}, {"target", target_}, {"reliance", before_.reliance}};
    if (options_.found) json["found"] = *options_.found;
    if (options_.expected) json["expected"] = *options_.expected;
    json["proxies"] = Json::array();
    if (options_.proxies != nullptr) {
      for (const Proxy& proxy : options_.proxies->proxies) json["proxies"].push_back({{"feature", proxy.feature}, {"share", proxy.share}});
    }
    json["steps"] = after.strength > 0 ? steps_of(after.strength) : Json::array();
    Json trials = Json::array();
    for (const Trial& t : trials_) trials.push_back(json_of(t));
    json["measured"] = {{"measure", measure_}, {"before", json_of(before_)}, {"after", json_of(after)}, {"wanted_reliance", wanted_}, {"reached", is_enough(after)}, {"risen", risen(after)}, {"trials", std::move(trials)}};
    return json;
  }

  const Table& table_;
  const std::string &target_, &feature_;
  const PlanOptions& options_;
  std::vector<Trial> trials_;
  Trial before_;
  double wanted_ = 0;
  std::string measure_;
};

}  // namespace

Result<Json> plan_augmentation(const Table& table, const std::string& target, const std::string& feature, const PlanOptions& options) {
  if (feature == target) return base::refuse("'{}' is the target; a plan is for a feature", feature);
  if (table.find(feature) == nullptr) return base::refuse("the table has no column '{}' to make a plan for", feature);
  if (!(options.target_reliance >= 0 && options.target_reliance < 1)) return base::refuse("a reliance lies between 0 and 1; {} does not", options.target_reliance);
  if (!(options.most_accuracy_lost >= 0)) return base::refuse("the accuracy that may be lost is 0 or more; {} is not", options.most_accuracy_lost);
  if (!(options.reweigh >= 0 && options.reweigh <= 1)) return base::refuse("reweighing has a strength from 0 to 1; {} is none", options.reweigh);
  if (!options.training.weights.empty() || !options.training.sources.empty()) return base::refuse("a plan is made without weights and copies of its own");
  return Search(table, target, feature, options).plan();
}

}  // namespace deepseek::explain
