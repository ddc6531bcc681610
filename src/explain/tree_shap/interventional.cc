// Unknown features take a background row's values. On a leaf's path a feature is then followed by the row alone, by the background row alone, by
// both, or by neither, which ends the path: with a features of the first kind and c of the second the leaf's game is "all of the first and none of
// the second", whose Shapley values are (a-1)! c! / (a+c)! and -a! (c-1)! / (a+c)!. Rows that follow the same features of a path are done together.
#include <algorithm>
#include <bit>
#include <cmath>
#include <unordered_map>

#include "explain/tree_shap/tree_shap.h"
#include "hardware/team.h"

namespace deepseek::explain {
namespace {

// weight(a, c) = (a-1)! c! / (a+c)!, for a >= 1, c >= 0.
class Weights {
 public:
  Weights() {
    for (int a = 1; a <= kMostPathFeatures; ++a) {
      table_[a][0] = 1.0 / a;
      for (int c = 1; c <= kMostPathFeatures; ++c) table_[a][c] = table_[a][c - 1] * c / (a + c);
    }
  }
  [[nodiscard]] double operator()(int a, int c) const { return table_[a][c]; }

 private:
  double table_[kMostPathFeatures + 1][kMostPathFeatures + 1] = {};
};

struct Leaf {
  double value;
  std::vector<int32_t> features;
  std::vector<std::vector<int32_t>> splits;  // of each feature: nodes on the path, ~node where it leads to the right
};

void collect(const Tree& tree, int32_t at, Leaf& path, std::vector<Leaf>& leaves) {
  const TreeNode& node = tree.nodes[static_cast<size_t>(at)];
  if (node.feature < 0) {
    if (node.value != 0 && !path.features.empty()) leaves.push_back({node.value, path.features, path.splits});
    return;
  }
  const auto place = static_cast<size_t>(std::find(path.features.begin(), path.features.end(), node.feature) - path.features.begin());
  const bool added = place == path.features.size();
  if (added) {
    path.features.push_back(node.feature);
    path.splits.emplace_back();
  }
  for (const int32_t child : {node.left, node.right}) {
    path.splits[place].push_back(child == node.left ? at : ~at);
    collect(tree, child, path, leaves);
    path.splits[place].pop_back();
  }
  if (added) {
    path.features.pop_back();
    path.splits.pop_back();
  }
}

// Bit r of word r / 64 of a node: whether row r goes left.
class Decisions {
 public:
  Decisions(const TreeEnsemble& model, const Tree& tree, std::span<const double> rows)
      : words_((rows.size() / static_cast<size_t>(model.feature_count()) + 63) / 64), bits_(tree.nodes.size() * words_) {
    const auto features = static_cast<size_t>(model.feature_count()), count = rows.size() / features;
    for (size_t n = 0; n < tree.nodes.size(); ++n) {
      const TreeNode& node = tree.nodes[n];
      if (node.feature < 0) continue;
      for (size_t r = 0; r < count; ++r) {
        const double x = rows[r * features + static_cast<size_t>(node.feature)];
        if (goes_left(tree, node, model.float_inputs ? static_cast<float>(x) : x)) bits_[n * words_ + r / 64] |= uint64_t{1} << (r % 64);
      }
    }
  }
  // patterns[r]: bit j where row r follows the leaf's path at feature j.
  void patterns(const Leaf& leaf, std::vector<uint64_t>& patterns, size_t count) const {
    patterns.assign(count, 0);
    for (size_t w = 0; w < words_; ++w) {
      const size_t first = w * 64, last = std::min(count, first + 64);
      for (size_t j = 0; j < leaf.features.size(); ++j) {
        uint64_t follows = ~uint64_t{0};
        for (const int32_t split : leaf.splits[j]) follows &= split >= 0 ? bits_[static_cast<size_t>(split) * words_ + w] : ~bits_[static_cast<size_t>(~split) * words_ + w];
        if (follows == 0) continue;
        for (size_t r = first; r < last; ++r) patterns[r] |= (follows >> (r - first) & 1) << j;
      }
    }
  }

 private:
  size_t words_;
  std::vector<uint64_t> bits_;
};

// Values of a leaf's features for rows with one pattern.
void pattern_values(const Leaf& leaf, uint64_t follows, const std::vector<std::pair<uint64_t, double>>& background, std::vector<double>& values) {
  static const Weights weight;
  const size_t m = leaf.features.size();
  const uint64_t all = m == 64 ? ~uint64_t{0} : (uint64_t{1} << m) - 1;
  values.assign(m, 0);
  for (const auto& [pattern, share] : background) {
    const uint64_t mine = follows & ~pattern, theirs = pattern & ~follows;
    if ((follows | pattern) != all) continue;
    const int a = std::popcount(mine), c = std::popcount(theirs);
    if (a > 0) {
      const double gain = leaf.value * share * weight(a, c);
      for (uint64_t left = mine; left != 0; left &= left - 1) values[static_cast<size_t>(std::countr_zero(left))] += gain;
    }
    if (c > 0) {
      const double loss = leaf.value * share * weight(c, a);
      for (uint64_t left = theirs; left != 0; left &= left - 1) values[static_cast<size_t>(std::countr_zero(left))] -= loss;
    }
  }
}

void count_patterns(std::vector<uint64_t>& patterns, std::vector<std::pair<uint64_t, double>>& counts) {
  std::sort(patterns.begin(), patterns.end());
  counts.clear();
  for (const uint64_t pattern : patterns) {
    if (counts.empty() || counts.back().first != pattern) counts.emplace_back(pattern, 0);
    counts.back().second += 1;
  }
  for (auto& entry : counts) entry.second /= static_cast<double>(patterns.size());
}

struct Room {
  std::vector<uint64_t> rows, background;
  std::vector<std::pair<uint64_t, double>> counts;
  std::unordered_map<uint64_t, std::vector<double>> known;
};

// Adds a tree's values to `to` [rows, features].
void add_tree(const TreeEnsemble& model, const Tree& tree, std::span<const double> rows, std::span<const double> background, Room& room, double* to) {
  const auto features = static_cast<size_t>(model.feature_count()), count = rows.size() / features;
  std::vector<Leaf> leaves;
  Leaf path{};
  collect(tree, 0, path, leaves);
  const Decisions mine(model, tree, rows), theirs(model, tree, background);
  for (const Leaf& leaf : leaves) {
    theirs.patterns(leaf, room.background, background.size() / features);
    count_patterns(room.background, room.counts);
    mine.patterns(leaf, room.rows, count);
    room.known.clear();
    for (size_t r = 0; r < count; ++r) {
      auto [found, fresh] = room.known.try_emplace(room.rows[r]);
      if (fresh) pattern_values(leaf, room.rows[r], room.counts, found->second);
      for (size_t j = 0; j < leaf.features.size(); ++j) to[r * features + static_cast<size_t>(leaf.features[j])] += found->second[j];
    }
  }
}

}  // namespace

TreeAttribution interventional_tree_shap(const TreeEnsemble& model, std::span<const double> rows, std::span<const double> background, int threads) {
  const auto features = static_cast<size_t>(model.feature_count()), count = rows.size() / features, outputs = static_cast<size_t>(model.outputs());
  TreeAttribution result{std::vector<double>(rows.size() * outputs), std::vector<double>(outputs)};
  const std::vector<double> scores = raw_scores(model, background);
  for (size_t i = 0; i < scores.size(); ++i) result.base[i % outputs] += scores[i] / static_cast<double>(scores.size() / outputs);
  constexpr size_t kTreesAtATime = 16;  // a group's sums are added in the order of the groups, so that threads change nothing
  const auto groups = static_cast<int64_t>((model.trees.size() + kTreesAtATime - 1) / kTreesAtATime);
  constexpr size_t kRowsAtATime = 1024;
  hardware::Team team(threads);
  for (size_t first = 0; first < count; first += kRowsAtATime) {
    const size_t n = std::min(kRowsAtATime, count - first);
    const std::span<const double> part = rows.subspan(first * features, n * features);
    std::vector<std::vector<double>> sums(static_cast<size_t>(groups));
    team.run([&](int) {
      Room room;
      team.share(groups, 1, [&](int64_t from, int64_t to) {
        for (int64_t g = from; g < to; ++g) {
          std::vector<double>& sum = sums[static_cast<size_t>(g)];
          sum.assign(n * features * outputs, 0);
          const size_t begin = static_cast<size_t>(g) * kTreesAtATime;
          for (size_t t = begin; t < std::min(begin + kTreesAtATime, model.trees.size()); ++t) {
            add_tree(model, model.trees[t], part, background, room, sum.data() + static_cast<size_t>(model.trees[t].output) * n * features);
          }
        }
      });
    });
    for (const auto& sum : sums) {
      for (size_t o = 0; o < outputs; ++o) {
        for (size_t r = 0; r < n; ++r) {
          for (size_t j = 0; j < features; ++j) result.values[((first + r) * outputs + o) * features + j] += sum[(o * n + r) * features + j];
        }
      }
    }
  }
  return result;
}

}  // namespace deepseek::explain
