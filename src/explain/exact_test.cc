// Against other definitions of the same values: orders of arrival, Harsanyi dividends, least squares; and the axioms on random games.
#include "explain/exact.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

namespace deepseek::explain {
namespace {

std::vector<double> random_table(int n, uint32_t seed) {
  std::mt19937 draw(seed);
  std::vector<double> table(size_t{1} << n);
  for (double& v : table) v = std::normal_distribution<double>()(draw);
  return table;
}

FeatureTree tree_of(const char* groups, int n) {
  std::vector<std::string> names;
  for (int i = 0; i < n; ++i) names.push_back(std::string(1, static_cast<char>('a' + i)));
  auto tree = tree_of_groups(nlohmann::ordered_json::parse(groups), names);
  EXPECT_TRUE(tree) << tree.error().message;
  return *tree;
}

// All orders in which the features below a node can arrive when groups stay together.
std::vector<std::vector<int32_t>> orders(const FeatureTree& tree, size_t node) {
  if (tree.nodes[node].feature >= 0) return {{tree.nodes[node].feature}};
  std::vector<int32_t> children = tree.nodes[node].children;
  std::sort(children.begin(), children.end());
  std::vector<std::vector<int32_t>> all;
  do {
    std::vector<std::vector<int32_t>> some{{}};
    for (const int32_t child : children) {
      std::vector<std::vector<int32_t>> longer;
      for (const auto& head : some) {
        for (const auto& tail : orders(tree, static_cast<size_t>(child))) {
          longer.push_back(head);
          longer.back().insert(longer.back().end(), tail.begin(), tail.end());
        }
      }
      some = std::move(longer);
    }
    all.insert(all.end(), some.begin(), some.end());
  } while (std::next_permutation(children.begin(), children.end()));
  return all;
}

std::vector<double> by_orders(const std::vector<double>& table, const FeatureTree& tree) {
  std::vector<double> values(static_cast<size_t>(tree.feature_count()));
  const auto all = orders(tree, 0);
  for (const auto& order : all) {
    size_t known = 0;
    for (const int32_t feature : order) {
      const size_t next = known | size_t{1} << feature;
      values[static_cast<size_t>(feature)] += (table[next] - table[known]) / static_cast<double>(all.size());
      known = next;
    }
  }
  return values;
}

double leaf_value(const std::vector<double>& values, const FeatureTree& tree, int32_t feature) {
  for (size_t n = 0; n < tree.nodes.size(); ++n) {
    if (tree.nodes[n].feature == feature) return values[n];
  }
  return std::nan("");
}

TEST(Exact, WinterValuesAreMeansOverOrdersThatKeepGroupsTogether) {
  for (const auto& [groups, n] : {std::pair{"{}", 5}, {R"({"G": ["a", "c"], "H": ["b", "e"]})", 6}, {R"({"G": ["f", {"X": ["b", "d"]}], "H": {"Y": ["a", "e"], "Z": ["c"]}})", 7}}) {
    const auto table = random_table(n, static_cast<uint32_t>(n));
    const FeatureTree tree = tree_of(groups, n);
    const auto values = winter_values(table, tree), expected = by_orders(table, tree);
    for (int32_t i = 0; i < n; ++i) EXPECT_NEAR(leaf_value(values, tree, i), expected[static_cast<size_t>(i)], 1e-12) << groups << " " << i;
    EXPECT_NEAR(values[0], table.back() - table.front(), 1e-12);
    for (size_t node = 0; node < tree.nodes.size(); ++node) {
      if (tree.nodes[node].feature >= 0) continue;
      double sum = 0;
      for (const int32_t child : tree.nodes[node].children) sum += values[static_cast<size_t>(child)];
      EXPECT_NEAR(values[node], sum, 1e-12);
    }
  }
}

TEST(Exact, ShapleyValuesAndInteractionsFollowFromTheDividends) {
  for (int n = 1; n <= 9; ++n) {
    const auto table = random_table(n, 40u + static_cast<uint32_t>(n));
    const auto values = shapley_values(table), pairs = shapley_interactions(table);
    std::vector<double> single(static_cast<size_t>(n)), pair(static_cast<size_t>(n * n));
    for (size_t s = 1; s < table.size(); ++s) {
      double dividend = 0;
      for (size_t t = s;; t = (t - 1) & s) {
        dividend += ((std::popcount(s) - std::popcount(t)) % 2 == 0 ? 1 : -1) * table[t];
        if (t == 0) break;
      }
      const int size = std::popcount(s);
      for (int i = 0; i < n; ++i) {
        if ((s >> i & 1) == 0) continue;
        single[static_cast<size_t>(i)] += dividend / size;
        for (int j = 0; j < n; ++j) {
          if (j != i && (s >> j & 1) != 0) pair[static_cast<size_t>(i * n + j)] += dividend / (size - 1);
        }
      }
    }
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], single[i], 1e-11);
    for (size_t i = 0; i < pairs.size(); ++i) EXPECT_NEAR(pairs[i], pair[i], 1e-11);
  }
}

// Solves a x = b, symmetric and positive, by elimination with pivots.
std::vector<double> solved(std::vector<std::vector<double>> a, std::vector<double> b) {
  const size_t n = b.size();
  for (size_t k = 0; k < n; ++k) {
    size_t best = k;
    for (size_t r = k; r < n; ++r) best = std::abs(a[r][k]) > std::abs(a[best][k]) ? r : best;
    std::swap(a[k], a[best]);
    std::swap(b[k], b[best]);
    for (size_t r = k + 1; r < n; ++r) {
      const double f = a[r][k] / a[k][k];
      for (size_t c = k; c < n; ++c) a[r][c] -= f * a[k][c];
      b[r] -= f * b[k];
    }
  }
  for (size_t k = n; k-- > 0;) {
    for (size_t c = k + 1; c < n; ++c) b[k] -= a[k][c] * b[c];
    b[k] /= a[k][k];
  }
  return b;
}

TEST(Exact, FaithShapIsTheBestFitInTheShapleyKernel) {
  for (int n = 3; n <= 7; ++n) {
    const auto table = random_table(n, 70u + static_cast<uint32_t>(n));
    // Least squares over singles and pairs, with a multiplier for the worth of all players.
    std::vector<std::pair<int, int>> terms;
    for (int i = 0; i < n; ++i) terms.emplace_back(i, i);
    for (int i = 0; i < n; ++i) {
      for (int j = i + 1; j < n; ++j) terms.emplace_back(i, j);
    }
    const size_t m = terms.size();
    std::vector<std::vector<double>> a(m + 1, std::vector<double>(m + 1));
    std::vector<double> b(m + 1);
    for (size_t s = 1; s + 1 < table.size(); ++s) {
      const int size = std::popcount(s);
      const double weight = (n - 1) / (std::tgamma(n + 1.0) / std::tgamma(size + 1.0) / std::tgamma(n - size + 1.0) * size * (n - size));
      const auto in = [&](size_t t) { return (s >> terms[t].first & 1) != 0 && (s >> terms[t].second & 1) != 0; };
      for (size_t r = 0; r < m; ++r) {
        if (!in(r)) continue;
        b[r] += weight * (table[s] - table[0]);
        for (size_t c = 0; c < m; ++c) a[r][c] += in(c) ? weight : 0;
      }
    }
    for (size_t t = 0; t < m; ++t) a[t][m] = a[m][t] = 1;
    b[m] = table.back() - table.front();
    const auto fit = solved(a, b);
    const auto found = faith_shap(table);
    for (size_t t = 0; t < m; ++t) {
      const auto [i, j] = terms[t];
      EXPECT_NEAR(i == j ? found.single[static_cast<size_t>(i)] : found.pairs[static_cast<size_t>(i * n + j)], fit[t], 1e-9) << n << ": " << i << ", " << j;
    }
  }
}

TEST(Exact, InteractionsOnATreeAddUpAndAreTheIndexOnAFlatOne) {
  const int n = 7;
  const auto table = random_table(n, 5);
  const FeatureTree flat = tree_of("{}", n), deep = tree_of(R"({"G": ["a", {"X": ["b", "d"]}], "H": {"Y": ["c", "e"], "Z": ["f"]}})", n);
  const auto sii = shapley_interactions(table), faith = faith_shap(table).pairs;
  for (int32_t i = 0; i < n; ++i) {
    for (int32_t j = 0; j < i; ++j) {
      const auto at = static_cast<size_t>(i * n + j);
      EXPECT_NEAR(winter_interaction(table, flat, i + 1, j + 1, InteractionIndex::kShapley), sii[at], 1e-11);
      EXPECT_NEAR(winter_interaction(table, flat, i + 1, j + 1, InteractionIndex::kFaith), faith[at], 1e-11);
    }
  }
  for (const auto index : {InteractionIndex::kShapley, InteractionIndex::kFaith}) {
    for (size_t a = 1; a < deep.nodes.size(); ++a) {
      for (size_t b = a + 1; b < deep.nodes.size(); ++b) {
        const auto first = static_cast<int32_t>(a), second = static_cast<int32_t>(b);
        bool inside = false;
        for (int32_t up = second; up >= 0; up = deep.nodes[static_cast<size_t>(up)].parent) inside |= up == first;
        if (inside || deep.nodes[a].children.empty()) continue;
        double sum = 0;
        for (const int32_t c : deep.nodes[a].children) sum += winter_interaction(table, deep, c, second, index);
        EXPECT_NEAR(winter_interaction(table, deep, first, second, index), sum, 1e-11) << deep.nodes[a].name << " " << deep.nodes[b].name;
      }
    }
  }
}

TEST(Exact, Axioms) {
  const int n = 8;
  auto table = random_table(n, 5);
  const auto other = random_table(n, 6);
  for (size_t s = 0; s < table.size(); ++s) {
    if ((s >> 2 & 1) != 0) table[s] = table[s ^ 4];                                  // player 2 changes nothing
    if ((s & 3) == 2) table[s] = table[(s ^ 2) | 1];                                  // 0 and 1 are worth the same
  }
  for (size_t s = 0; s < table.size(); ++s) {
    if ((s >> 2 & 1) != 0) table[s] = table[s ^ 4];
  }
  const FeatureTree tree = tree_of(R"({"G": ["a", "b"], "H": ["c", "d", {"I": ["e", "f"]}]})", n);
  std::vector<double> mixed(table.size());
  for (size_t s = 0; s < table.size(); ++s) mixed[s] = 2 * table[s] - 3 * other[s];
  const auto winter = winter_values(table, tree);
  EXPECT_NEAR(leaf_value(winter, tree, 2), 0, 1e-13);
  EXPECT_NEAR(leaf_value(winter, tree, 0), leaf_value(winter, tree, 1), 1e-13);
  const auto second = winter_values(other, tree), both = winter_values(mixed, tree);
  for (size_t i = 0; i < both.size(); ++i) EXPECT_NEAR(both[i], 2 * winter[i] - 3 * second[i], 1e-11);
  for (const auto& values : {k_sii(table), faith_shap(table)}) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) {
      sum += values.single[i];
      for (size_t j = i + 1; j < n; ++j) sum += values.pairs[i * n + j];
      EXPECT_NEAR(values.pairs[2 * n + i], 0, 1e-13);
    }
    EXPECT_NEAR(sum, table.back() - table.front(), 1e-12);
    EXPECT_NEAR(values.single[0], values.single[1], 1e-13);
    EXPECT_NEAR(values.single[2], 0, 1e-13);
  }
}

TEST(Exact, GroupsOfALinearModelAreSumsOfShapleyValues) {
  const double weights[] = {1, -2, 3, 0.5, 0, 7};
  FunctionGame game(6, [&](std::span<const uint8_t> coalition) {
    double sum = 4;
    for (size_t i = 0; i < 6; ++i) sum += coalition[i] * weights[i];
    return sum;
  });
  const auto table = worth_table(game);
  ASSERT_TRUE(table);
  const FeatureTree tree = tree_of(R"({"G": ["a", "b", "c"], "H": ["d", "e"]})", 6);
  const auto winter = winter_values(*table, tree), flat = shapley_values(*table);
  for (int32_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(flat[static_cast<size_t>(i)], weights[i], 1e-12);
    EXPECT_NEAR(leaf_value(winter, tree, i), weights[i], 1e-12);
  }
  FunctionGame large(kMostExactPlayers + 1, [](std::span<const uint8_t>) { return 0.0; });
  EXPECT_FALSE(worth_table(large));
}

TEST(Exact, MarginalGameAveragesTheBackgroundAndRefusesNan) {
  const Scorer product = [](std::span<const double> rows) -> base::Result<std::vector<double>> {
    std::vector<double> scores;
    for (size_t r = 0; r < rows.size(); r += 2) scores.push_back(rows[r] * rows[r + 1]);
    return scores;
  };
  MarginalGame game(product, {2, 5}, {1, 1, 3, 7}, 3);  // three rows at a time: one coalition
  const auto table = worth_table(game);
  ASSERT_TRUE(table) << table.error().message;
  EXPECT_EQ(*table, (std::vector<double>{(1 + 21) / 2.0, (2 + 14) / 2.0, (5 + 15) / 2.0, 10}));
  EXPECT_EQ(game.rows_scored(), 7);  // with all features known both rows of the background give the sample
  MarginalGame broken([](std::span<const double> rows) { return std::vector<double>(rows.size() / 2, std::nan("")); }, {2, 5}, {1, 1});
  EXPECT_NE(worth_table(broken).error().message.find("no number"), std::string::npos);
  MarginalGame few([](std::span<const double>) { return std::vector<double>(1); }, {2, 5}, {1, 1});
  EXPECT_EQ(worth_table(few).error().message, "the model gave 1 scores for 4 rows");
}

TEST(FeatureTree, GroupsThatOverlapOrMissAFeature) {
  const std::vector<std::string> names{"a", "b", "c"};
  const auto refused = [&](const char* groups) {
    const auto tree = tree_of_groups(nlohmann::ordered_json::parse(groups), names);
    return tree ? std::string("accepted") : tree.error().message;
  };
  EXPECT_EQ(refused(R"({"G": ["a", "b"], "H": ["b"]})"), "the feature 'b' is in two groups; 'H' is the second");
  EXPECT_EQ(refused(R"({"G": ["a", "z"]})"), "group 'G' names the feature 'z', which the model does not have");
  EXPECT_EQ(refused(R"({"G": []})"), "group 'G' has no list of features");
  EXPECT_EQ(refused(R"({"a": ["b"]})"), "'a' is a feature; a group needs another name");
  EXPECT_EQ(refused(R"(["a"])"), "groups are a JSON object of names, each with a list of features");
  const FeatureTree tree = tree_of(R"({"G": ["c"]})", 3);
  EXPECT_EQ(tree.nodes.size(), 5u);  // a and b, which no group names, under the root
  EXPECT_EQ(tree.features_below()[0], (std::vector<int32_t>{0, 1, 2}));
}

TEST(FeatureTree, ClustersOfDependence) {
  const std::vector<std::string> names{"a", "b", "c", "d"};
  const std::vector<double> distance{0, 0.1, 0.8, 0.9, 0.1, 0, 0.8, 0.9, 0.8, 0.8, 0, 0.95, 0.9, 0.9, 0.95, 0};
  const FeatureTree all = clustered_tree(distance, names, 1), some = clustered_tree(distance, names, 0.5);
  EXPECT_EQ(some.nodes[0].children.size(), 3u);  // a with b, c, d
  EXPECT_EQ(some.nodes[1].name, "a and 1 more");
  EXPECT_EQ(all.nodes[0].children.size(), 2u);   // (a, b, c), d
  EXPECT_EQ(all.features_below()[0], (std::vector<int32_t>{0, 1, 2, 3}));
}

}  // namespace
}  // namespace deepseek::explain
