// Against enumeration: error, intervals, the sum, and what repeats itself.
#include "explain/estimate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "explain/exact.h"

namespace deepseek::explain {
namespace {

// A small network of random weights over the players: smooth, with interactions of every order.
FunctionGame network(int n, uint32_t seed, double steepness = 1.5) {
  std::mt19937 draw(seed);
  std::normal_distribution<double> normal;
  std::vector<double> weights(static_cast<size_t>(8 * (n + 2)));
  for (double& w : weights) w = normal(draw);
  return {n, [=](std::span<const uint8_t> coalition) {
            double sum = 0;
            for (int h = 0; h < 8; ++h) {
              const double* w = weights.data() + h * (n + 2);
              double x = w[n];
              for (int i = 0; i < n; ++i) x += coalition[static_cast<size_t>(i)] * w[i] / std::sqrt(1.0 + i);
              sum += w[n + 1] * std::tanh(steepness * x);
            }
            return sum;
          }};
}

Estimate estimated(Game& game, const EstimateOptions& options) {
  auto result = estimate_shapley(game, options);
  EXPECT_TRUE(result) << result.error().message;
  return std::move(*result);
}

TEST(Estimate, IsNearTheTruthAndItsIntervalsHoldIt) {
  int inside = 0, all = 0;
  double error = 0, norm = 0;
  for (uint32_t seed = 0; seed < 30; ++seed) {
    const int n = 10 + static_cast<int>(seed % 3);
    auto game = network(n, seed);
    const auto truth = shapley_values(*worth_table(game));
    const Estimate e = estimated(game, {.budget = 160, .seed = seed});
    EXPECT_FALSE(e.exact);
    EXPECT_LE(e.asked, 160);
    double sum = e.base;
    for (size_t i = 0; i < truth.size(); ++i) {
      sum += e.values[i];
      error += (e.values[i] - truth[i]) * (e.values[i] - truth[i]);
      norm += truth[i] * truth[i];
      inside += std::abs(e.values[i] - truth[i]) <= e.half_width[i] ? 1 : 0;
      ++all;
    }
    EXPECT_NEAR(sum, e.total, 1e-9);
  }
  EXPECT_LT(std::sqrt(error / norm), 0.05);
  EXPECT_GT(inside, all * 0.90);  // of a nominal 95%
  EXPECT_LT(inside, all * 0.995);  // and not by being wide
}

TEST(Estimate, EveryCoalitionGivesTheExactValues) {
  auto game = network(9, 3);
  const auto truth = shapley_values(*worth_table(game));
  const Estimate e = estimated(game, {.budget = 512});
  EXPECT_TRUE(e.exact);
  const Estimate nearly = estimated(game, {.budget = 511});  // all pairs but one at most
  for (size_t i = 0; i < truth.size(); ++i) {
    EXPECT_NEAR(e.values[i], truth[i], 1e-12);
    EXPECT_EQ(e.half_width[i], 0);
    EXPECT_NEAR(nearly.values[i], truth[i], 2e-3);
  }
}

TEST(Estimate, AdditiveAndConstantGames) {
  FunctionGame additive(30, [](std::span<const uint8_t> c) {
    double sum = 2;
    for (size_t i = 0; i < c.size(); ++i) sum += c[i] * (static_cast<double>(i) - 10);
    return sum;
  });
  const Estimate e = estimated(additive, {.budget = 120});
  for (size_t i = 0; i < 30; ++i) {
    EXPECT_NEAR(e.values[i], static_cast<double>(i) - 10, 1e-3);
    EXPECT_LT(e.half_width[i], 0.05);
  }
  FunctionGame constant(25, [](std::span<const uint8_t>) { return 3.0; });
  for (const double value : estimated(constant, {.budget = 100}).values) EXPECT_EQ(value, 0);
  FunctionGame one(1, [](std::span<const uint8_t> c) { return 5.0 * c[0]; });
  EXPECT_EQ(estimated(one, {}).values, std::vector<double>{5});
}

TEST(Estimate, StopsWhenPrecise) {
  auto game = network(16, 8, 0.7);
  const Estimate rough = estimated(game, {.budget = 4000, .precision = 0.05}), fine = estimated(game, {.budget = 4000, .precision = 0.005});
  EXPECT_TRUE(rough.precise);
  EXPECT_LT(rough.asked, fine.asked);
  for (const double width : rough.half_width) EXPECT_LE(width, 0.05);
  const Estimate never = estimated(game, {.budget = 100, .precision = 1e-9});
  EXPECT_FALSE(never.precise);
}

TEST(Estimate, ManyFeaturesAndFewCalls) {
  auto game = network(600, 1, 0.3);
  const Estimate e = estimated(game, {.budget = 300});
  double sum = e.base;
  for (const double value : e.values) sum += value;
  EXPECT_NEAR(sum, e.total, 1e-9);
  EXPECT_LE(e.asked, 300);
}

// Three groups, one of them two levels deep.
FeatureTree grouped(int n) {
  std::vector<std::string> names;
  for (int i = 0; i < n; ++i) names.push_back("x" + std::to_string(i));
  const auto groups = nlohmann::ordered_json::parse(R"({"a": ["x0", "x1", {"deep": ["x2", "x3"]}], "b": ["x4", "x5", "x6"], "c": ["x7", "x8"]})");
  return *tree_of_groups(groups, names);
}

TEST(EstimateOnATree, ValuesAndPairsAreNearTheTruthAndAddUp) {
  int inside = 0, all = 0, pairs_inside = 0, pairs = 0;
  double error = 0, norm = 0, pair_error = 0, pair_norm = 0;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    auto game = network(11, seed);
    const FeatureTree tree = grouped(11);
    const auto table = *worth_table(game);
    const auto truth = winter_values(table, tree);
    const auto index = seed % 2 == 0 ? InteractionIndex::kShapley : InteractionIndex::kFaith;
    auto e = estimate_winter(game, tree, {.budget = 300, .pairs = 200, .index = index, .seed = seed});
    ASSERT_TRUE(e) << e.error().message;
    EXPECT_NEAR(e->values[0], e->total - e->base, 1e-12);
    for (size_t n = 0; n < tree.nodes.size(); ++n) {
      double sum = 0;
      for (const int32_t c : tree.nodes[n].children) sum += e->values[static_cast<size_t>(c)];
      EXPECT_NEAR(e->values[n], tree.nodes[n].children.empty() ? e->values[n] : sum, 1e-9);
      error += (e->values[n] - truth[n]) * (e->values[n] - truth[n]);
      norm += truth[n] * truth[n];
      if (n == 0) continue;
      inside += std::abs(e->values[n] - truth[n]) <= e->half_width[n] + 1e-6 ? 1 : 0;
      ++all;
    }
    for (const PairEstimate& pair : e->pairs) {
      const double exact = winter_interaction(table, tree, pair.first, pair.second, index);
      pairs_inside += std::abs(pair.value - exact) <= pair.half_width + 1e-6 ? 1 : 0;
      pair_error += (pair.value - exact) * (pair.value - exact);
      pair_norm += exact * exact;
      ++pairs;
    }
  }
  EXPECT_LT(std::sqrt(error / norm), 0.05);
  EXPECT_GT(inside, all * 0.88);
  EXPECT_LT(inside, all * 0.995);
  EXPECT_LT(std::sqrt(pair_error / pair_norm), 0.35);
  EXPECT_GT(pairs_inside, pairs * 0.88);
}

TEST(EstimateOnATree, TheStrongPairIsFoundAmongMany) {
  FunctionGame game(80, [](std::span<const uint8_t> c) {
    double sum = 3.0 * c[17] * c[42] - 2.0 * c[5] * c[6];
    for (size_t i = 0; i < c.size(); ++i) sum += 0.1 * c[i] * (static_cast<double>(i % 7) - 3);
    return sum;
  });
  auto e = estimate_shapley(game, {.budget = 800, .pairs = 2});
  ASSERT_TRUE(e) << e.error().message;
  ASSERT_EQ(e->pairs.size(), 2u);
  EXPECT_EQ(std::minmax(e->pairs[0].first, e->pairs[0].second), std::minmax(17, 42));
  EXPECT_EQ(std::minmax(e->pairs[1].first, e->pairs[1].second), std::minmax(5, 6));
  EXPECT_NEAR(e->pairs[0].value, 3, 0.3);
  EXPECT_NEAR(e->pairs[1].value, -2, 0.3);
}

TEST(EstimateOnATree, OpensWhatMattersAndLeavesTheRestClosed) {
  nlohmann::ordered_json groups;
  std::vector<std::string> names;
  for (int g = 0; g < 20; ++g) {
    for (int i = 0; i < 20; ++i) {
      names.push_back("x" + std::to_string(20 * g + i));
      groups["group " + std::to_string(g)].push_back(names.back());
    }
  }
  const FeatureTree tree = *tree_of_groups(groups, names);
  FunctionGame game(400, [](std::span<const uint8_t> c) { return 2.0 * c[41] * c[45] + 1.0 * c[47] + 0.5 * c[300]; });
  auto e = estimate_winter(game, tree, {.budget = 400});
  ASSERT_TRUE(e) << e.error().message;
  const auto node_of = [&](const std::string& name) { return static_cast<size_t>(std::find_if(tree.nodes.begin(), tree.nodes.end(), [&](const auto& n) { return n.name == name; }) - tree.nodes.begin()); };
  EXPECT_EQ(e->open[node_of("group 2")], 1);
  EXPECT_EQ(e->open[node_of("group 15")], 1);
  EXPECT_EQ(e->open[node_of("group 7")], 0);
  EXPECT_NEAR(e->values[node_of("group 2")], 3, 0.05);
  EXPECT_NEAR(e->values[node_of("x41")], 1, 0.2);
  EXPECT_NEAR(e->values[node_of("x47")], 1, 0.2);
  EXPECT_NEAR(e->values[node_of("x300")], 0.5, 0.1);
  EXPECT_LE(e->asked, 400);
}

TEST(Estimate, TheSeedDecidesEverything) {
  auto game = network(14, 2);
  const Estimate a = estimated(game, {.budget = 200, .seed = 4}), b = estimated(game, {.budget = 200, .seed = 4}), c = estimated(game, {.budget = 200, .seed = 5});
  EXPECT_EQ(a.values, b.values);
  EXPECT_EQ(a.half_width, b.half_width);
  EXPECT_NE(a.values, c.values);
}

// One rule that asks for everything: nearly all coalitions are worth the same, of more than 4,096 pairs whole parts of them.
TEST(Estimate, AGameThatIsFlatNearlyEverywhere) {
  FunctionGame rule(24, [](std::span<const uint8_t> coalition) { return std::all_of(coalition.begin(), coalition.end(), [](uint8_t in) { return in != 0; }) ? 1.0 : 0.0; });
  const Estimate e = estimated(rule, {.budget = 2 * 4096 + 200, .pairs = 5});
  double sum = 0;
  for (const double value : e.values) sum += value;
  EXPECT_NEAR(sum, 1, 1e-9);
  for (const double width : e.half_width) EXPECT_TRUE(std::isfinite(width));
}

TEST(Estimate, TheScaleOfTheScoresDoesNotMatter) {
  const auto values_at = [](double scale) {
    auto plain = network(14, 3);
    FunctionGame game(14, [&](std::span<const uint8_t> coalition) {
      double worth = 0;
      EXPECT_TRUE(plain.worth(coalition, {&worth, 1}));
      return scale * worth;
    });
    return estimated(game, {.budget = 120, .pairs = 3});
  };
  const Estimate plain = values_at(1);
  for (const double scale : {0x1p600, 0x1p-600}) {  // whose squares are infinite, or 0
    const Estimate e = values_at(scale);
    for (size_t i = 0; i < e.values.size(); ++i) EXPECT_NEAR(e.values[i] / scale, plain.values[i], 1e-9);
    EXPECT_EQ(e.pairs.size(), plain.pairs.size());
  }
  FunctionGame huge(14, [](std::span<const uint8_t> coalition) { return coalition[0] != 0 ? 1e308 : -1e308; });
  EXPECT_EQ(estimate_shapley(huge, {.budget = 60}).error().message, "a score of 1e+308 is too large to be explained");
}

TEST(Estimate, RefusesAbsurdOptionsAndPassesErrorsOn) {
  auto game = network(14, 2);
  EXPECT_EQ(estimate_shapley(game, {.budget = 3}).error().message, "a budget of 3 coalitions is too small; 4 are the fewest");
  EXPECT_EQ(estimate_shapley(game, {.confidence = 1}).error().message, "a confidence lies between 0 and 1; 1 does not");
  FunctionGame empty(0, [](std::span<const uint8_t>) { return 0.0; });
  EXPECT_EQ(estimate_shapley(empty).error().message, "there is nothing to attribute to: no features");
  MarginalGame broken([](std::span<const double>) -> base::Result<std::vector<double>> { return base::fail("the scorer died"); }, std::vector<double>(30), std::vector<double>(30));
  EXPECT_EQ(estimate_shapley(broken).error().message, "the scorer died");
}

}  // namespace
}  // namespace deepseek::explain
