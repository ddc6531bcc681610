// One model under every engine, and what does not go together.
#include "explain/explainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

namespace deepseek::explain {
namespace {

constexpr int kFeatures = 6;

std::vector<double> normal_rows(int count, uint32_t seed) {
  std::mt19937 draw(seed);
  std::vector<double> rows(static_cast<size_t>(count * kFeatures));
  for (double& x : rows) x = std::normal_distribution<double>()(draw);
  return rows;
}

FeatureTree two_groups() {
  const std::vector<std::string> names{"a", "b", "c", "d", "e", "f"};
  return *tree_of_groups(nlohmann::ordered_json::parse(R"({"G": ["a", "b"], "H": ["c", "d", "e"]})"), names);
}

TableModel linear_model() {
  TableModel model{.kind = "linear", .outputs = {"y"}};
  model.weights = {1, -2, 0.5, 0, 3, 0.25};
  model.offset = {0.75};
  model.score = [w = model.weights](std::span<const double> rows) -> base::Result<std::vector<double>> {
    std::vector<double> scores;
    for (size_t r = 0; r < rows.size(); r += kFeatures) {
      scores.push_back(0.75);
      for (size_t j = 0; j < kFeatures; ++j) scores.back() += w[j] * rows[r + j];
    }
    return scores;
  };
  return model;
}

LocalExplanation explained(const TableModel& model, const ExplainOptions& options, std::span<const double> row) {
  auto explainer = Explainer::create(model, two_groups(), normal_rows(200, 1), options);
  EXPECT_TRUE(explainer) << explainer.error().message;
  auto local = explainer->explain(row);
  EXPECT_TRUE(local) << local.error().message;
  return *local;
}

TEST(Explainer, EnginesAgreeOnALinearModel) {
  const auto row = normal_rows(1, 9);
  const auto exact = explained(linear_model(), {.engine = Engine::kLinear}, row);
  for (const Engine engine : {Engine::kExact, Engine::kEstimate}) {
    const auto other = explained(linear_model(), {.engine = engine}, row);
    EXPECT_NEAR(other.base, exact.base, 1e-9);
    EXPECT_NEAR(other.score, exact.score, 1e-9);
    for (size_t n = 0; n < exact.values.size(); ++n) EXPECT_NEAR(other.values[n], exact.values[n], 1e-9);
  }
}

TEST(Explainer, AFewCoalitionsKeepTheSums) {
  const auto row = normal_rows(1, 4);
  const auto local = explained(linear_model(), {.engine = Engine::kEstimate, .budget = 24}, row);
  const FeatureTree tree = two_groups();
  EXPECT_FALSE(local.exact);
  EXPECT_NEAR(local.values[0], local.score - local.base, 1e-9);
  for (size_t n = 0; n < tree.nodes.size(); ++n) {
    double sum = 0;
    for (const int32_t c : tree.nodes[n].children) sum += local.values[static_cast<size_t>(c)];
    const bool group = local.open[n] != 0 && tree.nodes[n].feature < 0;
    EXPECT_NEAR(local.values[n], group ? sum : local.values[n], 1e-9);
  }
}

TEST(Explainer, ConditionalWorthSharesWhatDependentFeaturesSay) {
  // b follows a; the model reads a alone. Marginally b is worth nothing, conditionally it tells of a.
  std::mt19937 draw(3);
  std::vector<double> background = normal_rows(1500, 2);
  for (size_t r = 0; r < background.size(); r += kFeatures) background[r + 1] = background[r] + 0.05 * std::normal_distribution<double>()(draw);
  TableModel model{.kind = "test", .outputs = {"y"}};
  model.score = [](std::span<const double> rows) -> base::Result<std::vector<double>> {
    std::vector<double> scores;
    for (size_t r = 0; r < rows.size(); r += kFeatures) scores.push_back(rows[r]);
    return scores;
  };
  const std::vector<std::string> names{"a", "b", "c", "d", "e", "f"};
  const std::vector<double> row{1.5, 1.5, 0, 0, 0, 0};
  const auto value_of_b = [&](Worth worth) {
    auto explainer = Explainer::create(model, flat_tree(names), background, {.engine = Engine::kExact, .worth = worth, .background = 50, .pairs = 0});
    EXPECT_TRUE(explainer) << explainer.error().message;
    return explainer->explain(row)->values[2];
  };
  EXPECT_NEAR(value_of_b(Worth::kMarginal), 0, 1e-12);
  EXPECT_GT(value_of_b(Worth::kConditional), 0.3);
}

TEST(Explainer, ManyRowsAndTheirMeans) {
  const auto rows = normal_rows(30, 5);
  auto explainer = Explainer::create(linear_model(), two_groups(), normal_rows(200, 1), {});
  ASSERT_TRUE(explainer);
  const auto global = *explainer->explain_all(rows);
  double size = 0;
  for (const auto& local : global.rows) size += std::abs(local.values[1]) / 30;
  EXPECT_NEAR(global.importance[1], size, 1e-12);
  EXPECT_GT(global.half_width[1], 0);
  EXPECT_EQ(global.rows.size(), 30u);
}

TEST(Explainer, RefusesWhatDoesNotGoTogether) {
  const auto refused = [](const ExplainOptions& options) {
    auto explainer = Explainer::create(linear_model(), two_groups(), normal_rows(5, 1), options);
    return explainer ? std::string() : explainer.error().message;
  };
  EXPECT_EQ(refused({.engine = Engine::kTrees}), "the engine 'trees' needs a tree ensemble; this model is linear");
  EXPECT_EQ(refused({.output = 2}), "there is no output 2; the model has 1");
  EXPECT_EQ(refused({.worth = Worth::kPath}), "path-dependent values are those of the engine 'trees'");
  EXPECT_EQ(refused({.background = 0}), "a background of 0 rows is too small; 1 is the least");
  EXPECT_EQ(refused({.engine = Engine::kEstimate, .budget = 3}), "a budget of 3 coalitions is too small; 4 are the fewest");
  EXPECT_EQ(refused({.engine = Engine::kEstimate, .worth = Worth::kConditional, .background = std::numeric_limits<int64_t>::max()}), "");
  TableModel model = linear_model();
  model.gradient = [](std::span<const double> rows, int64_t) -> base::Result<std::vector<double>> { return std::vector<double>(rows.begin(), rows.end()); };
  EXPECT_EQ(Explainer::create(model, two_groups(), normal_rows(5, 1), {.engine = Engine::kGradients, .budget = 1'000'000'000}).error().message,
            "a budget of 1000000000 is more than a row can be worth; 10000000 is the most");
  EXPECT_EQ(engine_named("shap").error().message, "there is no engine 'shap'; there are auto, exact, trees, linear, gradients, estimate");
}

}  // namespace
}  // namespace deepseek::explain
