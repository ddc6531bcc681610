#include "explain/explainer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "base/random.h"
#include "explain/exact.h"
#include "explain/game.h"
#include "explain/gradients.h"
#include "explain/intervals.h"

namespace deepseek::explain {
namespace {

using base::Result;

constexpr size_t kMostNumbers = size_t{1} << 24;  // values and interactions that are held at once: 128 MiB
constexpr int64_t kMostPaired = 20'000;           // features of trees, of all pairs of which the interactions are held for one row: 3 GB
constexpr int64_t kMostBudget = 10'000'000;       // beyond it a row takes days, and more memory than there is

template <typename Value>
Result<Value> named(const char* what, const std::string& name, std::initializer_list<std::pair<const char*, Value>> known) {
  std::string names;
  for (const auto& [text, value] : known) {
    if (name == text) return value;
    names += (names.empty() ? "" : ", ") + std::string(text);
  }
  return base::refuse("there is no {} '{}'; there are {}", what, name, names);
}

// `most` rows of [count, n], by the seed, in their order.
std::vector<double> some_rows(std::span<const double> rows, int64_t n, int64_t most, uint64_t seed) {
  return rows_at(rows, n, base::some_of(static_cast<int64_t>(rows.size()) / n, most, seed));
}

double rms_error(std::span<const double> x, double mean) {
  double sum = 0;
  for (const double value : x) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(x.size() - 1) / static_cast<double>(x.size()));
}

std::vector<double> means_of(std::span<const double> rows, int64_t n) {
  const auto width = static_cast<size_t>(n);
  std::vector<double> means(width);
  for (size_t i = 0; i < rows.size(); ++i) means[i % width] += rows[i] / static_cast<double>(rows.size() / width);
  return means;
}

Engine chosen_engine(const TableModel& model, const ExplainOptions& o) {
  if (o.engine != Engine::kAuto) return o.engine;
  if (o.worth == Worth::kConditional) return Engine::kEstimate;
  if (model.trees) return Engine::kTrees;
  return model.weights.empty() ? Engine::kEstimate : Engine::kLinear;
}

base::Status check_output(const TableModel& model, int64_t output) {
  if (output < 0 || output >= static_cast<int64_t>(model.outputs.size())) return base::refuse("there is no output {}; the model has {}", output, model.outputs.size());
  return {};
}

base::Status check(const TableModel& model, const FeatureTree& tree, std::span<const double> background, const ExplainOptions& o) {
  const int64_t n = tree.feature_count();
  const Engine engine = chosen_engine(model, o);
  if (n < 1) return base::refuse("there is nothing to attribute to: no features");
  if (base::Status ok = check_output(model, o.output); !ok) return ok;
  if (o.background < 1) return base::refuse("a background of {} rows is too small; 1 is the least", o.background);
  if (background.empty() || background.size() % static_cast<size_t>(n) != 0) return base::refuse("{} numbers are no background rows of {} features", background.size(), n);
  if (!(o.confidence > 0 && o.confidence < 1)) return base::refuse("a confidence lies between 0 and 1; {} does not", o.confidence);
  if (o.budget < 0 || o.pairs < 0 || !(o.precision >= 0)) return base::refuse("budget, precision and the number of interactions are 0 or more");
  if (o.budget > 0 && o.budget < 4 && engine == Engine::kEstimate && n > 2) return base::refuse("a budget of {} coalitions is too small; 4 are the fewest", o.budget);
  const bool samples = engine == Engine::kGradients || (engine == Engine::kEstimate && n > kMostExactPlayers);
  if (samples && o.budget > kMostBudget) return base::refuse("a budget of {} is more than a row can be worth; {} is the most", o.budget, kMostBudget);
  if (engine == Engine::kTrees && !model.trees) return base::refuse("the engine 'trees' needs a tree ensemble; this model is {}", model.kind);
  if (engine == Engine::kLinear && model.weights.empty()) return base::refuse("the engine 'linear' needs a linear model; this one is {}", model.kind);
  if (engine == Engine::kGradients && !model.gradient) return base::refuse("the engine 'gradients' needs a differentiable model (a net, TorchScript, linear); this one is {}", model.kind);
  if (o.worth == Worth::kPath && engine != Engine::kTrees) return base::refuse("path-dependent values are those of the engine 'trees'");
  if (o.worth == Worth::kConditional && engine != Engine::kEstimate && engine != Engine::kExact) return base::refuse("conditional values come from the engines 'exact' and 'estimate'");
  if (engine == Engine::kExact && n > kMostExactPlayers) return base::refuse("{} features have 2^{} coalitions; up to {} are enumerated: use the engine 'estimate'", n, n, kMostExactPlayers);
  if (engine == Engine::kTrees && o.pairs > 0 && n > kMostPaired) return base::refuse("interactions of {} features do not fit in memory; {} are the most: ask for 0 interactions", n, kMostPaired);
  return {};
}

}  // namespace

Result<Worth> worth_named(const std::string& name) {
  return named<Worth>("worth", name, {{"marginal", Worth::kMarginal}, {"conditional", Worth::kConditional}, {"path", Worth::kPath}});
}

Result<Engine> engine_named(const std::string& name) {
  return named<Engine>("engine", name, {{"auto", Engine::kAuto}, {"exact", Engine::kExact}, {"trees", Engine::kTrees}, {"linear", Engine::kLinear}, {"gradients", Engine::kGradients},
                                        {"estimate", Engine::kEstimate}});
}

LocalExplanation local_of(Estimate estimate) {
  return {.values = std::move(estimate.values), .half_width = std::move(estimate.half_width), .open = std::move(estimate.open), .pairs = std::move(estimate.pairs), .base = estimate.base,
          .score = estimate.total, .asked = estimate.asked, .exact = estimate.exact, .precise = estimate.precise};
}

Explainer::Explainer(TableModel model, FeatureTree tree, std::span<const double> background, const ExplainOptions& options)
    : model_(std::move(model)), tree_(std::move(tree)), options_(options), engine_(chosen_engine(model_, options)), features_(tree_.feature_count()) {
  background_ = some_rows(background, features_, options.background, options.seed);
  if (engine_ == Engine::kLinear) means_ = means_of(background_, features_);
  if (options.worth == Worth::kConditional) pool_ = some_rows(background, features_, 20 * std::min<int64_t>(options.background, std::ssize(background)), options.seed + 1);
}

Result<Explainer> Explainer::create(TableModel model, FeatureTree tree, std::span<const double> background, const ExplainOptions& options) {
  if (base::Status ok = check(model, tree, background, options); !ok) return base::pass(ok);
  return Explainer(std::move(model), std::move(tree), background, options);
}

std::string Explainer::engine_text() const {
  switch (engine_) {
    case Engine::kTrees: return options_.worth == Worth::kPath ? "trees, path dependent" : "trees, interventional";
    case Engine::kLinear: return "linear";
    case Engine::kGradients: return background_rows() == 1 ? "integrated gradients" : "expected gradients";
    case Engine::kExact: return "enumeration of all coalitions";
    default: return "estimate from sampled coalitions";
  }
}

std::vector<double> Explainer::from_features(std::span<const double> of_features) const {
  std::vector<double> nodes(tree_.nodes.size());
  const auto leaves = tree_.leaves();
  for (size_t j = 0; j < leaves.size(); ++j) nodes[static_cast<size_t>(leaves[j])] = of_features[j];
  tree_.add_up(nodes);
  return nodes;
}

// The strongest of [features, features], and of the groups that are siblings, whose interaction is the sum of their features'.
std::vector<PairEstimate> Explainer::strongest(std::span<const double> pairs) const {
  std::vector<PairEstimate> found;
  const auto below = tree_.features_below();
  for (size_t a = 1; a < tree_.nodes.size(); ++a) {
    for (size_t b = a + 1; b < tree_.nodes.size(); ++b) {
      const bool leaves = tree_.nodes[a].feature >= 0 && tree_.nodes[b].feature >= 0;
      if (!leaves && tree_.nodes[a].parent != tree_.nodes[b].parent) continue;
      double sum = 0;
      for (const int32_t i : below[a]) {
        for (const int32_t j : below[b]) sum += pairs[static_cast<size_t>(i * features_ + j)];
      }
      if (sum != 0) found.push_back({static_cast<int32_t>(a), static_cast<int32_t>(b), sum, 0});
    }
  }
  keep_strongest(found, options_.pairs);
  return found;
}

TreeWorth Explainer::tree_worth() const { return {.background = options_.worth == Worth::kPath ? std::span<const double>() : background_, .threads = options_.threads}; }

LocalExplanation Explainer::by_trees(std::span<const double> values, double base, std::span<const double> pairs) const {
  LocalExplanation local{.values = {values.begin(), values.end()}, .half_width = std::vector<double>(values.size()), .open = std::vector<uint8_t>(values.size(), 1), .pairs = {}, .base = base};
  local.score = base + values[0];
  if (!pairs.empty()) local.pairs = strongest(pairs);
  return local;
}

// Of a linear score the value of a feature is its weight times its distance from the background's mean, on any tree.
Result<LocalExplanation> Explainer::by_weights(std::span<const double> row) const {
  const auto n = static_cast<size_t>(features_);
  const std::span<const double> weights = std::span(model_.weights).subspan(static_cast<size_t>(options_.output) * n, n);
  std::vector<double> values(n);
  LocalExplanation local{.base = model_.offset[static_cast<size_t>(options_.output)]};
  for (size_t j = 0; j < n; ++j) {
    if (weights[j] == 0) continue;
    if (!std::isfinite(row[j]) || !std::isfinite(means_[j])) {
      const std::string name = tree_.nodes[static_cast<size_t>(tree_.leaves()[j])].name;
      return base::fail("a linear model has no score where '{}' is missing, as it is in {}; fill it in, or leave such rows out", name, std::isfinite(row[j]) ? "the background" : "this row");
    }
    values[j] = weights[j] * (row[j] - means_[j]);
    local.base += weights[j] * means_[j];
  }
  local.values = from_features(values);
  local.half_width.resize(tree_.nodes.size());
  local.open.assign(tree_.nodes.size(), 1);
  local.score = local.base + local.values[0];
  return local;
}

Result<LocalExplanation> Explainer::by_gradients(std::span<const double> row) const {
  auto found = background_rows() == 1 ? integrated_gradients(model_, row, background_, options_.output)
                                      : expected_gradients(model_, row, background_, options_.output, {.samples = options_.budget, .confidence = options_.confidence, .seed = options_.seed});
  if (!found) return base::pass(found);
  LocalExplanation local{.values = from_features(found->values), .half_width = {}, .open = std::vector<uint8_t>(tree_.nodes.size(), 1), .pairs = {}, .base = found->base, .score = found->score,
                         .asked = options_.budget, .exact = false, .precise = true, .gap = found->gap};
  std::vector<double> squares;
  for (const double width : found->half_width) squares.push_back(width * width);
  local.half_width = from_features(squares);
  for (double& width : local.half_width) width = std::sqrt(width);
  return local;
}

Result<LocalExplanation> Explainer::by_game(std::span<const double> row) const {
  const Scorer scorer = [&](std::span<const double> rows) { return scores_of(model_, rows, features_, options_.output); };
  EstimateOptions o{.budget = options_.budget, .precision = options_.precision, .confidence = options_.confidence, .pairs = options_.pairs, .index = options_.index, .seed = options_.seed};
  if (engine_ == Engine::kExact) o.budget = int64_t{1} << features_;
  const std::vector<double> sample(row.begin(), row.end());
  std::unique_ptr<Game> game;
  if (options_.worth == Worth::kConditional) game = std::make_unique<ConditionalGame>(scorer, sample, pool_, background_rows(), category_flags(model_.features));
  else game = std::make_unique<MarginalGame>(scorer, sample, background_);
  auto found = estimate_winter(*game, tree_, o);
  if (!found) return base::pass(found);
  return local_of(std::move(*found));
}

Result<std::vector<LocalExplanation>> Explainer::of_rows(std::span<const double> rows, const std::function<void(int64_t)>& on_progress, const std::function<bool()>& stop_requested,
                                                            std::string& stopped) const {
  const auto n = static_cast<size_t>(features_), count = rows.size() / n;
  std::vector<LocalExplanation> found;
  const size_t nodes = tree_.nodes.size(), outputs = model_.outputs.size(), pairs = options_.pairs > 0 ? n * n : 0;
  const size_t at_a_time = std::clamp<size_t>(kMostNumbers / std::max<size_t>(1, pairs + nodes * outputs), 1, 256);
  for (size_t first = 0; first < count; first += at_a_time) {
    const size_t last = std::min(count, first + at_a_time);
    TreeAttribution trees;
    std::vector<double> together;
    if (engine_ == Engine::kTrees) {
      const auto part = rows.subspan(first * n, (last - first) * n);
      trees = tree_winter(*model_.trees, tree_, part, tree_worth());
      if (pairs > 0) together = tree_winter_interactions(*model_.trees, tree_, part, options_.output, options_.index, tree_worth());
    }
    for (size_t r = first; r < last; ++r) {
      if (stop_requested && stop_requested()) {
        stopped = "interrupted";
        return found;
      }
      const std::span<const double> row = rows.subspan(r * n, n);
      if (engine_ == Engine::kTrees) {
        const auto output = static_cast<size_t>(options_.output);
        found.push_back(by_trees(std::span(trees.values).subspan(((r - first) * outputs + output) * nodes, nodes), trees.base[output], std::span(together).subspan((r - first) * pairs, pairs)));
      } else {
        auto one = engine_ == Engine::kLinear ? by_weights(row) : engine_ == Engine::kGradients ? by_gradients(row) : by_game(row);
        if (!one) {
          if (found.size() < 2) return base::pass(one);
          stopped = one.error().message;
          return found;
        }
        found.push_back(std::move(*one));
      }
      if (on_progress) on_progress(static_cast<int64_t>(found.size()));
    }
  }
  return found;
}

base::Status Explainer::choose_output(int64_t output) {
  if (base::Status ok = check_output(model_, output); !ok) return ok;
  options_.output = output;
  return {};
}

Result<LocalExplanation> Explainer::explain(std::span<const double> row) const {
  if (row.size() != static_cast<size_t>(features_)) return base::refuse("a row of {} values for {} features", row.size(), features_);
  std::string stopped;
  auto found = of_rows(row, {}, {}, stopped);
  if (!found) return base::pass(found);
  return std::move(found->front());
}

Result<GlobalExplanation> Explainer::explain_all(std::span<const double> rows, const std::function<void(int64_t)>& on_progress, const std::function<bool()>& stop_requested) const {
  if (rows.empty() || rows.size() % static_cast<size_t>(features_) != 0) return base::refuse("{} numbers are no rows of {} features", rows.size(), features_);
  std::string stopped;
  auto found = of_rows(rows, on_progress, stop_requested, stopped);
  if (!found) return base::pass(found);
  if (found->size() < 2 && !stopped.empty()) return base::fail("{} after {} of {} rows", stopped, found->size(), rows.size() / static_cast<size_t>(features_));
  GlobalExplanation global{.rows = std::move(*found), .stopped = stopped};
  const auto count = static_cast<double>(global.rows.size());
  const double z = two_sided(options_.confidence);
  for (size_t n = 0; n < tree_.nodes.size(); ++n) {
    std::vector<double> sizes;
    double mean = 0, size = 0, width = 0;
    for (const auto& local : global.rows) {
      sizes.push_back(std::abs(local.values[n]));
      mean += local.values[n] / count;
      size += sizes.back() / count;
      width += local.half_width[n] * local.half_width[n] / (count * count);
    }
    const double of_rows = count > 1 ? z * rms_error(sizes, size) : 0;
    global.importance.push_back(size);
    global.mean.push_back(mean);
    global.half_width.push_back(std::sqrt(of_rows * of_rows + width));
  }
  std::map<std::pair<int32_t, int32_t>, std::vector<double>> pairs;
  for (const auto& local : global.rows) {
    global.base += local.base / count;
    for (const PairEstimate& pair : local.pairs) pairs[{pair.first, pair.second}].push_back(std::abs(pair.value));
  }
  for (auto& [nodes, sizes] : pairs) {
    sizes.resize(global.rows.size());  // where a pair is not among a row's strongest, it counts as 0
    double mean = 0;
    for (const double x : sizes) mean += x / count;
    global.pairs.push_back({nodes.first, nodes.second, mean, count > 1 ? z * rms_error(sizes, mean) : 0});
  }
  keep_strongest(global.pairs, options_.pairs);
  return global;
}

}  // namespace deepseek::explain
