#include "explain/exact.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <initializer_list>
#include <utility>

namespace deepseek::explain {
namespace {

int players_of(std::span<const double> table) { return std::countr_zero(table.size()); }

std::vector<double> shapley_weights(int n) {
  std::vector<double> weights(static_cast<size_t>(n));
  for (int size = 0; size < n; ++size) weights[static_cast<size_t>(size)] = shapley_weight(size, n);
  return weights;
}

double choose(int n, int k) {
  if (k < 0 || k > n) return 0;
  double result = 1;
  for (int i = 1; i <= k; ++i) result = result * (n - k + i) / i;
  return result;
}

// a(S) with v(S) = sum of a(T) over T within S.
std::vector<double> dividends(std::span<const double> table) {
  std::vector<double> a(table.begin(), table.end());
  for (size_t bit = 1; bit < a.size(); bit <<= 1) {
    for (size_t s = 0; s < a.size(); ++s) {
      if ((s & bit) != 0) a[s] -= a[s ^ bit];
    }
  }
  return a;
}

// Bits of the features below each node.
std::vector<size_t> masks_of(const FeatureTree& tree) {
  std::vector<size_t> masks;
  for (const auto& features : tree.features_below()) {
    masks.push_back(0);
    for (const int32_t feature : features) masks.back() |= size_t{1} << feature;
  }
  return masks;
}

class Winter {
 public:
  Winter(std::span<const double> table, const FeatureTree& tree) : table_(table), tree_(tree), mask_(masks_of(tree)), values_(tree.nodes.size()) {}

  std::vector<double> run() {
    share(0, 0, 1);
    tree_.add_up(values_);
    return std::move(values_);
  }

 private:
  // `known` takes part, with this probability; all children of the node come in every order.
  void share(size_t node, size_t known, double probability) {
    const auto& children = tree_.nodes[node].children;
    if (children.empty()) {
      values_[node] += probability * (table_[known | mask_[node]] - table_[known]);
      return;
    }
    const auto k = static_cast<int>(children.size());
    const auto weights = shapley_weights(k);
    for (int c = 0; c < k; ++c) {
      for (size_t before = 0; before < size_t{1} << k; ++before) {
        if ((before >> c & 1) != 0) continue;
        size_t also = known;
        for (int d = 0; d < k; ++d) also |= (before >> d & 1) != 0 ? mask_[static_cast<size_t>(children[static_cast<size_t>(d)])] : 0;
        share(static_cast<size_t>(children[static_cast<size_t>(c)]), also, probability * weights[static_cast<size_t>(std::popcount(before))]);
      }
    }
  }

  std::span<const double> table_;
  const FeatureTree& tree_;
  std::vector<size_t> mask_;
  std::vector<double> values_;
};

// Interactions on a tree: every level on the ways from the root to two nodes, one after the other.
class WinterPair {
 public:
  WinterPair(std::span<const double> table, const FeatureTree& tree, int32_t first, int32_t second, InteractionIndex index)
      : table_(table), masks_(masks_of(tree)), first_(masks_[static_cast<size_t>(first)]), second_(masks_[static_cast<size_t>(second)]) {
    const Fork fork = fork_of(tree, first, second);
    add_level(tree, fork.node, {fork.first, fork.second}, index);
    for (const int32_t n : fork.ways) add_level(tree, tree.nodes[static_cast<size_t>(n)].parent, {n}, InteractionIndex::kShapley);
  }

  double sum(size_t level = 0, size_t known = 0) const {
    if (level == levels_.size()) return table_[known | first_ | second_] - table_[known | first_] - table_[known | second_] + table_[known];
    const auto& [siblings, weights] = levels_[level];
    double total = 0;
    for (size_t some = 0; some < size_t{1} << siblings.size(); ++some) {
      size_t also = known;
      for (size_t i = 0; i < siblings.size(); ++i) also |= (some >> i & 1) != 0 ? siblings[i] : 0;
      total += weights[static_cast<size_t>(std::popcount(some))] * sum(level + 1, also);
    }
    return total;
  }

 private:
  void add_level(const FeatureTree& tree, int32_t parent, std::initializer_list<int32_t> without, InteractionIndex index) {
    std::vector<size_t> siblings;
    for (const int32_t c : tree.nodes[static_cast<size_t>(parent)].children) {
      if (std::find(without.begin(), without.end(), c) == without.end()) siblings.push_back(masks_[static_cast<size_t>(c)]);
    }
    const auto others = static_cast<int64_t>(siblings.size());
    std::vector<double> weights;
    for (int64_t s = 0; s <= others; ++s) weights.push_back(chance_of(s, others, index));
    levels_.emplace_back(std::move(siblings), std::move(weights));
  }

  std::span<const double> table_;
  std::vector<size_t> masks_;
  size_t first_, second_;
  std::vector<std::pair<std::vector<size_t>, std::vector<double>>> levels_;
};

}  // namespace

double shapley_weight(int64_t size, int64_t n) {
  return std::exp(std::lgamma(static_cast<double>(size + 1)) + std::lgamma(static_cast<double>(n - size)) - std::lgamma(static_cast<double>(n + 1)));
}

double chance_of(int64_t taking, int64_t others, InteractionIndex index) {
  return index == InteractionIndex::kFaith ? 6 * shapley_weight(taking + 1, others + 3) : shapley_weight(taking, others + 1);
}

base::Result<std::vector<double>> worth_table(Game& game) {
  const int64_t n = game.players();
  if (n > kMostExactPlayers) return base::refuse("{} players have 2^{} coalitions; up to {} are enumerated", n, n, kMostExactPlayers);
  std::vector<double> table(size_t{1} << n);
  std::vector<uint8_t> coalitions(table.size() * static_cast<size_t>(n));
  for (size_t s = 0; s < table.size(); ++s) {
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) coalitions[s * static_cast<size_t>(n) + i] = static_cast<uint8_t>(s >> i & 1);
  }
  if (base::Status ok = game.worth(coalitions, table); !ok) return base::pass(ok);
  return table;
}

std::vector<double> shapley_values(std::span<const double> table) {
  const int n = players_of(table);
  const auto weights = shapley_weights(n);
  std::vector<double> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i) {
    for (size_t s = 0; s < table.size(); ++s) {
      if ((s >> i & 1) == 0) values[i] += weights[static_cast<size_t>(std::popcount(s))] * (table[s | size_t{1} << i] - table[s]);
    }
  }
  return values;
}

std::vector<double> shapley_interactions(std::span<const double> table) {
  const int n = players_of(table);
  const auto count = static_cast<size_t>(n);
  std::vector<double> pairs(count * count);
  if (n < 2) return pairs;
  const auto weights = shapley_weights(n - 1);
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = i + 1; j < count; ++j) {
      const size_t a = size_t{1} << i, b = size_t{1} << j;
      double sum = 0;
      for (size_t s = 0; s < table.size(); ++s) {
        if ((s & (a | b)) == 0) sum += weights[static_cast<size_t>(std::popcount(s))] * (table[s | a | b] - table[s | a] - table[s | b] + table[s]);
      }
      pairs[i * count + j] = pairs[j * count + i] = sum;
    }
  }
  return pairs;
}

PairwiseValues k_sii(std::span<const double> table) {
  PairwiseValues result{shapley_values(table), shapley_interactions(table)};
  const size_t n = result.single.size();
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) result.single[i] -= result.pairs[i * n + j] / 2;
  }
  return result;
}

PairwiseValues faith_shap(std::span<const double> table) {
  const int n = players_of(table);
  const auto count = static_cast<size_t>(n);
  const std::vector<double> a = dividends(table);
  PairwiseValues result{std::vector<double>(count), std::vector<double>(count * count)};
  // What a dividend of a set of t > 2 players adds to each of its pairs and of its players.
  std::vector<double> to_pair(count + 1), to_single(count + 1);
  for (int t = 3; t <= n; ++t) {
    to_pair[static_cast<size_t>(t)] = 0.5 * choose(t - 1, 2) / choose(t + 1, 4);
    to_single[static_cast<size_t>(t)] = -(1.0 / 3) * 2 * choose(t - 1, 2) / choose(t + 1, 3);
  }
  for (size_t s = 1; s < a.size(); ++s) {
    const int t = std::popcount(s);
    const double pair = t == 2 ? 1 : to_pair[static_cast<size_t>(t)], single = t == 1 ? 1 : to_single[static_cast<size_t>(t)];
    for (size_t i = 0; i < count; ++i) {
      if ((s >> i & 1) == 0) continue;
      result.single[i] += single * a[s];
      for (size_t j = i + 1; t >= 2 && j < count; ++j) {
        if ((s >> j & 1) != 0) result.pairs[i * count + j] += pair * a[s];
      }
    }
  }
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < i; ++j) result.pairs[i * count + j] = result.pairs[j * count + i];
  }
  return result;
}

std::vector<double> winter_values(std::span<const double> table, const FeatureTree& tree) { return Winter(table, tree).run(); }

double winter_interaction(std::span<const double> table, const FeatureTree& tree, int32_t first, int32_t second, InteractionIndex index) {
  return WinterPair(table, tree, first, second, index).sum();
}

}  // namespace deepseek::explain
