// Every value against the sum over all 2^n coalitions, with the games walked node by node.
#include "explain/tree_shap/tree_shap.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "explain/exact.h"

namespace deepseek::explain {
namespace {

using Draw = std::mt19937;
using Game = std::function<double(uint32_t coalition)>;

double uniform(Draw& draw) { return std::uniform_real_distribution<double>(0, 1)(draw); }

// Grows a random tree; features repeat on its paths, values are missing, some splits are by categories.
void grow(Draw& draw, Tree& tree, size_t at, int features, int depth, double cover) {
  tree.nodes[at].cover = cover;
  if (depth == 0 || uniform(draw) < 0.1) {
    tree.nodes[at].value = uniform(draw) - 0.4;
    return;
  }
  TreeNode& node = tree.nodes[at];
  node.feature = static_cast<int32_t>(draw() % static_cast<uint32_t>(features));
  node.threshold = uniform(draw) * 4;
  node.missing = static_cast<TreeNode::Missing>(draw() % 3);
  node.default_left = draw() % 2 == 0;
  if (draw() % 4 == 0) {
    node.categories = static_cast<int32_t>(tree.category_sets.size());
    node.others_left = draw() % 2 == 0;
    tree.category_sets.push_back({static_cast<uint32_t>(draw())});
  }
  const auto left = tree.nodes.size();
  node.left = static_cast<int32_t>(left);
  node.right = static_cast<int32_t>(left + 1);
  tree.nodes.resize(left + 2);
  const double part = uniform(draw) < 0.1 ? 0 : uniform(draw);
  grow(draw, tree, left, features, depth - 1, cover * part);
  grow(draw, tree, left + 1, features, depth - 1, cover * (1 - part));
}

TreeEnsemble random_ensemble(uint32_t seed, int features, int trees, int depth, int outputs = 1) {
  Draw draw(seed);
  TreeEnsemble model{.kind = "random"};
  for (int j = 0; j < features; ++j) model.features.push_back("x" + std::to_string(j));
  for (int o = 0; o < outputs; ++o) model.base.push_back(0.5 * o - 0.2);
  for (int t = 0; t < trees; ++t) {
    Tree tree{.output = t % outputs};
    tree.nodes.resize(1);
    grow(draw, tree, 0, features, depth, 100);
    model.trees.push_back(std::move(tree));
  }
  return model;
}

std::vector<double> random_rows(uint32_t seed, size_t count, const TreeEnsemble& model) {
  Draw draw(seed);
  std::vector<double> rows(count * model.features.size());
  for (double& x : rows) x = draw() % 10 == 0 ? std::nan("") : draw() % 10 == 0 ? 0 : draw() % 2 == 0 ? std::floor(uniform(draw) * 5) : uniform(draw) * 4;
  return rows;
}

double walk(const Tree& tree, const double* row, uint32_t known, size_t at = 0) {
  const TreeNode& node = tree.nodes[at];
  if (node.feature < 0) return node.value;
  const auto left = static_cast<size_t>(node.left), right = static_cast<size_t>(node.right);
  if ((known >> node.feature & 1) != 0) return walk(tree, row, known, goes_left(tree, node, row[node.feature]) ? left : right);
  if (node.cover == 0) return 0;
  return (tree.nodes[left].cover * walk(tree, row, known, left) + tree.nodes[right].cover * walk(tree, row, known, right)) / node.cover;
}

Game path_game(const TreeEnsemble& model, const double* row, int32_t output) {
  return [&model, row, output](uint32_t known) {
    double sum = model.base[static_cast<size_t>(output)];
    for (const Tree& tree : model.trees) sum += tree.output == output ? walk(tree, row, known) : 0;
    return sum;
  };
}

Game mixed_game(const TreeEnsemble& model, const double* row, const std::vector<double>& background, int32_t output) {
  return [&model, row, &background, output](uint32_t known) {
    const size_t n = model.features.size(), count = background.size() / n;
    std::vector<double> rows = background;
    for (size_t r = 0; r < count; ++r) {
      for (size_t j = 0; j < n; ++j) {
        if ((known >> j & 1) != 0) rows[r * n + j] = row[j];
      }
    }
    const auto scores = raw_scores(model, rows);
    double sum = 0;
    for (size_t r = 0; r < count; ++r) sum += scores[r * model.base.size() + static_cast<size_t>(output)];
    return sum / static_cast<double>(count);
  };
}

std::vector<double> all_values(const Game& game, int n) {
  std::vector<double> values(size_t{1} << n);
  for (uint32_t s = 0; s < values.size(); ++s) values[s] = game(s);
  return values;
}

TEST(TreeShap, EqualsEveryCoalition) {
  for (uint32_t seed = 0; seed < 12; ++seed) {
    const int n = 1 + static_cast<int>(seed % 10), outputs = 1 + static_cast<int>(seed % 3);
    const auto model = random_ensemble(seed, n, 3 * outputs, 1 + static_cast<int>(seed), outputs);
    ASSERT_TRUE(check_ensemble(model));
    const auto rows = random_rows(seed + 100, 5, model);
    const auto result = tree_shap(model, rows);
    for (int r = 0; r < 5; ++r) {
      for (int o = 0; o < outputs; ++o) {
        const auto v = all_values(path_game(model, rows.data() + r * n, o), n), expected = shapley_values(v);
        EXPECT_NEAR(result.base[static_cast<size_t>(o)], v[0], 1e-12);
        for (int j = 0; j < n; ++j) EXPECT_NEAR(result.values[static_cast<size_t>((r * outputs + o) * n + j)], expected[static_cast<size_t>(j)], 1e-11) << seed << ": " << r << ", " << j;
      }
    }
  }
}

TEST(TreeShap, InteractionsEqualEveryCoalition) {
  for (uint32_t seed = 0; seed < 8; ++seed) {
    const int n = 2 + static_cast<int>(seed);
    const auto model = random_ensemble(seed + 50, n, 4, 2 + static_cast<int>(seed));
    const auto rows = random_rows(seed, 3, model);
    const auto result = tree_shap_interactions(model, rows);
    const auto values = tree_shap(model, rows).values;
    for (int r = 0; r < 3; ++r) {
      const auto v = all_values(path_game(model, rows.data() + r * n, 0), n), expected = shapley_interactions(v);
      for (int i = 0; i < n; ++i) {
        double sum = 0;
        for (int j = 0; j < n; ++j) {
          const double found = result[static_cast<size_t>((r * n + i) * n + j)];
          sum += found;
          if (i == j) continue;
          EXPECT_NEAR(found, expected[static_cast<size_t>(i * n + j)] / 2, 1e-11) << seed << ": " << i << ", " << j;
        }
        EXPECT_NEAR(sum, values[static_cast<size_t>(r * n + i)], 1e-11);
      }
    }
  }
}

TEST(TreeShap, InterventionalEqualsEveryCoalition) {
  for (uint32_t seed = 0; seed < 10; ++seed) {
    const int n = 1 + static_cast<int>(seed), outputs = 1 + static_cast<int>(seed % 2);
    const auto model = random_ensemble(seed + 20, n, 20 * outputs, 1 + static_cast<int>(seed), outputs);
    const auto rows = random_rows(seed, 4, model), background = random_rows(seed + 7, 1 + 9 * (seed % 3), model);
    const auto result = interventional_tree_shap(model, rows, background);
    for (int r = 0; r < 4; ++r) {
      for (int o = 0; o < outputs; ++o) {
        const auto v = all_values(mixed_game(model, rows.data() + r * n, background, o), n), expected = shapley_values(v);
        EXPECT_NEAR(result.base[static_cast<size_t>(o)], v[0], 1e-12);
        for (int j = 0; j < n; ++j) EXPECT_NEAR(result.values[static_cast<size_t>((r * outputs + o) * n + j)], expected[static_cast<size_t>(j)], 1e-11) << seed << ": " << r << ", " << j;
      }
    }
  }
}

FeatureTree groups_of(const char* groups, const TreeEnsemble& model) { return *tree_of_groups(nlohmann::ordered_json::parse(groups), model.features); }

TEST(TreeWinter, ValuesAndInteractionsEqualEveryCoalition) {
  const int n = 9;
  for (const char* groups : {"{}", R"({"A": ["x0", "x3", "x5"], "B": ["x1", "x2"]})", R"({"A": [{"deep": ["x0", {"deeper": ["x7", "x8"]}]}, "x4"], "B": {"C": ["x1", "x2"], "D": ["x6"]}})"}) {
    for (uint32_t seed = 0; seed < 4; ++seed) {
      const auto model = random_ensemble(seed + 70, n, 12, 2 + 2 * static_cast<int>(seed), 2);
      const FeatureTree tree = groups_of(groups, model);
      const auto rows = random_rows(seed, 3, model), background = seed % 2 == 0 ? random_rows(seed + 9, 1 + 80 * (seed / 2), model) : std::vector<double>();
      const TreeWorth worth{.background = background};
      const auto result = tree_winter(model, tree, rows, worth);
      for (int r = 0; r < 3; ++r) {
        const double* row = rows.data() + r * n;
        const auto table = all_values(background.empty() ? path_game(model, row, 1) : mixed_game(model, row, background, 1), n);
        const auto expected = winter_values(table, tree);
        EXPECT_NEAR(result.base[1], table[0], 1e-12);
        for (size_t node = 0; node < expected.size(); ++node) EXPECT_NEAR(result.values[static_cast<size_t>(r * 2 + 1) * expected.size() + node], expected[node], 1e-11) << groups << seed << tree.nodes[node].name;
        const auto index = r == 0 ? InteractionIndex::kFaith : InteractionIndex::kShapley;
        const auto pairs = tree_winter_interactions(model, tree, std::span(row, n), 1, index, worth);
        for (size_t a = 0; a < tree.nodes.size(); ++a) {
          for (size_t b = 0; b < tree.nodes.size(); ++b) {
            if (a == b || tree.nodes[a].feature < 0 || tree.nodes[b].feature < 0) continue;
            EXPECT_NEAR(pairs[static_cast<size_t>(tree.nodes[a].feature * n + tree.nodes[b].feature)], winter_interaction(table, tree, static_cast<int32_t>(a), static_cast<int32_t>(b), index), 1e-11);
          }
        }
      }
    }
  }
}

TEST(TreeWinter, AFlatTreeHasShapleyValuesAndThreadsChangeNothing) {
  const auto model = random_ensemble(11, 30, 60, 9);
  const auto rows = random_rows(5, 70, model), background = random_rows(6, 70, model);
  const FeatureTree flat = flat_tree(model.features);
  const auto expected = tree_shap(model, rows), against = interventional_tree_shap(model, rows, background);
  const auto found = tree_winter(model, flat, rows), mixed = tree_winter(model, flat, rows, {.background = background});
  for (size_t r = 0; r < 70; ++r) {
    for (size_t j = 0; j < 30; ++j) {
      EXPECT_NEAR(found.values[r * 31 + j + 1], expected.values[r * 30 + j], 1e-10);
      EXPECT_NEAR(mixed.values[r * 31 + j + 1], against.values[r * 30 + j], 1e-10);
    }
  }
  EXPECT_EQ(found.values, tree_winter(model, flat, rows, {.threads = 1}).values);
  const auto row = std::span(rows).subspan(0, 30);
  EXPECT_EQ(tree_winter_interactions(model, flat, row, 0, InteractionIndex::kShapley, {.threads = 1}), tree_winter_interactions(model, flat, row, 0, InteractionIndex::kShapley, {.threads = 2}));
}

// One chain that asks for a new feature at each split: the longest path that is walked.
TreeEnsemble chain(int features) {
  TreeEnsemble model{.kind = "chain", .base = {0}};
  Tree tree;
  for (int j = 0; j < features; ++j) {
    model.features.push_back("x" + std::to_string(j));
    tree.nodes.push_back({.feature = j, .left = 2 * j + 1, .right = 2 * j + 2, .threshold = 0.5, .cover = std::pow(0.9, j)});
    tree.nodes.push_back({.value = 0.1 * j, .cover = 0.1 * std::pow(0.9, j)});
  }
  tree.nodes.push_back({.value = 7, .cover = std::pow(0.9, features)});
  model.trees.push_back(std::move(tree));
  return model;
}

TEST(TreeShap, LongPathsKeepTheSum) {
  for (const int n : {9, 20, 63, 64}) {
    const auto model = chain(n);
    ASSERT_TRUE(check_ensemble(model)) << check_ensemble(model).error().message;
    std::vector<double> row(static_cast<size_t>(n), 1);
    for (int off = -1; off < n; off += 7) {
      if (off >= 0) row[static_cast<size_t>(off)] = 0;
      const auto result = tree_shap(model, row);
      const auto pairs = tree_shap_interactions(model, row);
      double sum = result.base[0], all = result.base[0];
      for (const double x : result.values) sum += x;
      for (const double x : pairs) all += x;
      EXPECT_NEAR(sum, raw_scores(model, row)[0], 1e-10) << n;
      EXPECT_NEAR(all, raw_scores(model, row)[0], 1e-9) << n;
    }
  }
  EXPECT_FALSE(check_ensemble(chain(65)));
}

TEST(TreeShap, NeitherRowsNorThreadsChangeABit) {
  const auto model = random_ensemble(3, 12, 40, 6);
  const auto rows = random_rows(4, 200, model), background = random_rows(5, 30, model);
  const auto all = tree_shap(model, rows, 2), one = tree_shap(model, rows, 1), first = tree_shap(model, std::span(rows).subspan(0, 12), 1);
  EXPECT_EQ(all.values, one.values);
  EXPECT_TRUE(std::equal(first.values.begin(), first.values.end(), all.values.begin()));
  EXPECT_EQ(interventional_tree_shap(model, rows, background, 2).values, interventional_tree_shap(model, rows, background, 1).values);
}

TEST(TreeShap, RefusesWhatCannotBeWalked) {
  const auto broken = [](const std::function<void(TreeEnsemble&)>& change) {
    auto model = random_ensemble(1, 3, 2, 3);
    change(model);
    const auto ok = check_ensemble(model);
    return ok ? std::string() : ok.error().message;
  };
  EXPECT_EQ(broken([](auto& m) { m.trees.clear(); }), "there are no trees");
  EXPECT_EQ(broken([](auto& m) { m.trees[0].nodes[0].left = 0; }), "tree 0: node 0 has the child 0 of " + std::to_string(random_ensemble(1, 3, 2, 3).trees[0].nodes.size()) + " nodes");
  EXPECT_EQ(broken([](auto& m) { m.trees[0].nodes[0].right = m.trees[0].nodes[0].left; }), "tree 0: node 1 has two parents");
  EXPECT_EQ(broken([](auto& m) { m.trees[1].nodes[0].feature = 3; }), "tree 1: node 0 splits by feature 3 of 3");
  EXPECT_EQ(broken([](auto& m) { m.trees[1].nodes[0].cover = std::nan(""); }), "tree 1: node 0 has a cover of nan");
  EXPECT_EQ(broken([](auto& m) { m.trees[1].output = 1; }), "tree 1: it adds to output 1 of 1");
}

}  // namespace
}  // namespace deepseek::explain
