// Unknown features take a background row's values. On a leaf's path a feature is then followed by the row alone ("mine"), by the background row alone ("theirs"), by
// both, or by neither, which ends the path: the leaf's game is "all of mine and none of theirs". On a tree of features a group that holds some of both is worth nothing
// whether it is in or out, and one that holds mine (or theirs) alone multiplies by t (or 1 - t); so with p groups of the first kind and q of the second every level is
// p! q! / (p + q + 1)!. Rows that follow the same features of a path are done together.
#include <algorithm>
#include <bit>
#include <cmath>

#include "explain/tree_shap/tree_shap.h"
#include "hardware/team.h"

namespace deepseek::explain {
namespace {

constexpr size_t kTreesAtATime = 64;               // whose leaves are prepared at once
constexpr size_t kNodesAtATime = size_t{1} << 17;  // of these trees: their leaves and patterns stay below some hundred MiB

// p! q! / (p + q + 1)!: the integral of t^p (1 - t)^q.
class Weights {
 public:
  Weights() {
    for (int p = 0; p < kSize; ++p) {
      table_[p][0] = 1.0 / (p + 1);
      for (int q = 1; q < kSize; ++q) table_[p][q] = table_[p][q - 1] * q / (p + q + 1);
    }
  }
  [[nodiscard]] double operator()(int p, int q) const { return table_[p][q]; }

 private:
  static constexpr int kSize = kMostPathFeatures + 2;
  double table_[kSize][kSize] = {};
};

// The features of a path on the tree of features: nodes where they part, the root first; a node of one feature is a leaf.
struct PathGroups {
  struct Node {
    uint64_t features = 0;  // bits by their place on the path
    uint32_t first = 0, children = 0;
  };
  std::vector<Node> nodes;
  bool flat = false;  // every feature is a child of the root
};

struct Leaf {
  double value = 0;
  std::vector<int32_t> features;
  std::vector<std::vector<int32_t>> splits;  // of each feature: nodes on the path, ~node where it leads to the right
  PathGroups groups;
  std::vector<std::pair<uint64_t, double>> background;  // patterns, and the share of its rows that have them

  [[nodiscard]] uint64_t all() const { return features.size() == 64 ? ~uint64_t{0} : (uint64_t{1} << features.size()) - 1; }
};

void collect(const Tree& tree, int32_t at, Leaf& path, std::vector<Leaf>& leaves) {
  const TreeNode& node = tree.nodes[static_cast<size_t>(at)];
  if (node.feature < 0) {
    if (node.value == 0 || path.features.empty()) return;
    path.value = node.value;
    leaves.push_back(path);
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

std::vector<std::pair<uint64_t, double>> shares_of(std::vector<uint64_t>& patterns) {
  std::sort(patterns.begin(), patterns.end());
  std::vector<std::pair<uint64_t, double>> shares;
  for (const uint64_t pattern : patterns) {
    if (shares.empty() || shares.back().first != pattern) shares.emplace_back(pattern, 0);
    shares.back().second += 1;
  }
  for (auto& entry : shares) entry.second /= static_cast<double>(patterns.size());
  return shares;
}

// Groups a path's features where their chains part; levels at which all stay together count for nothing.
class Grouper {
 public:
  explicit Grouper(const FeatureTree& tree) : chains_(tree.chains()), flat_(tree.is_flat()) {}

  PathGroups operator()(const std::vector<int32_t>& features) const {
    if (flat_) return side_by_side(features.size());
    std::vector<size_t> places(features.size());
    for (size_t j = 0; j < places.size(); ++j) places[j] = j;
    std::sort(places.begin(), places.end(), [&](size_t a, size_t b) { return chain(features[a]) < chain(features[b]); });
    PathGroups groups;
    groups.nodes.emplace_back();
    part(features, places, 0, groups, 0);
    groups.flat = groups.nodes.size() == features.size() + 1;
    return groups;
  }

 private:
  [[nodiscard]] const std::vector<int32_t>& chain(int32_t feature) const { return chains_[static_cast<size_t>(feature)]; }

  static PathGroups side_by_side(size_t features) {
    PathGroups groups{.nodes = std::vector<PathGroups::Node>(features + 1), .flat = true};
    groups.nodes[0].first = 1;
    groups.nodes[0].children = features > 1 ? static_cast<uint32_t>(features) : 0;
    for (size_t j = 0; j < features; ++j) {
      groups.nodes[j + 1].features = uint64_t{1} << j;
      groups.nodes[0].features |= uint64_t{1} << j;
    }
    return groups;
  }

  void part(const std::vector<int32_t>& features, std::span<const size_t> places, size_t depth, PathGroups& groups, size_t at) const {
    for (const size_t j : places) groups.nodes[at].features |= uint64_t{1} << j;
    if (places.size() == 1) return;
    const auto node = [&](size_t i) { return chain(features[places[i]])[depth]; };
    while (node(0) == node(places.size() - 1)) ++depth;
    std::vector<std::pair<size_t, size_t>> bounds;
    for (size_t i = 0; i < places.size(); ++i) {
      if (i == 0 || node(i) != node(i - 1)) bounds.emplace_back(i, i);
      bounds.back().second = i + 1;
    }
    const size_t first = groups.nodes.size();
    groups.nodes[at].first = static_cast<uint32_t>(first);
    groups.nodes[at].children = static_cast<uint32_t>(bounds.size());
    groups.nodes.resize(first + bounds.size());
    for (size_t c = 0; c < bounds.size(); ++c) part(features, places.subspan(bounds[c].first, bounds[c].second - bounds[c].first), depth + 1, groups, first + c);
  }

  std::vector<std::vector<int32_t>> chains_;
  bool flat_;
};

// The game of one leaf, one row and one row of the background.
class PatternGame {
 public:
  PatternGame(const PathGroups& groups, uint64_t mine, uint64_t theirs) : groups_(groups), mine_(mine), theirs_(theirs) {}

  // Adds factor times each feature's value.
  void values(double factor, double* to) const {
    if (!groups_.flat) return descend(groups_.nodes[0], factor, to);
    const Kinds all{std::popcount(mine_), std::popcount(theirs_), 0};
    if (mine_ != 0) add_each(mine_, factor * without(all, {1, 0, 0}), to);
    if (theirs_ != 0) add_each(theirs_, -factor * without(all, {0, 1, 0}), to);
  }

  // Adds factor times each pair's interaction, first below second, to [features, features].
  void pairs(double factor, InteractionIndex index, size_t features, double* to) {
    for (size_t j = 0; j < features; ++j) inside_[j] = (mine_ >> j & 1) != 0 ? 1 : (theirs_ >> j & 1) != 0 ? -1 : 0;
    pairs_below(groups_.nodes[0], factor, index, features, to);
  }

 private:
  struct Kinds {
    int mine = 0, theirs = 0, mixed = 0;
  };
  [[nodiscard]] Kinds kind(const PathGroups::Node& node) const {
    const bool has_mine = (node.features & mine_) != 0, has_theirs = (node.features & theirs_) != 0;
    return {has_mine && !has_theirs, has_theirs && !has_mine, has_mine && has_theirs};
  }
  [[nodiscard]] Kinds kinds(const PathGroups::Node& node) const {
    Kinds all;
    for (uint32_t c = 0; c < node.children; ++c) {
      const Kinds one = kind(groups_.nodes[node.first + c]);
      all.mine += one.mine, all.theirs += one.theirs, all.mixed += one.mixed;
    }
    return all;
  }
  [[nodiscard]] bool counts(const PathGroups::Node& node) const { return (node.features & (mine_ | theirs_)) != 0; }
  // The integral over the others.
  static double without(const Kinds& all, const Kinds& one) {
    static const Weights weight;
    return all.mixed > one.mixed ? 0 : weight(all.mine - one.mine, all.theirs - one.theirs);
  }
  static double without(const Kinds& all, const Kinds& one, const Kinds& other, InteractionIndex index) {
    static const Weights weight;
    if (all.mixed > one.mixed + other.mixed) return 0;
    const int p = all.mine - one.mine - other.mine, q = all.theirs - one.theirs - other.theirs;
    return index == InteractionIndex::kFaith ? 6 * weight(p + 1, q + 1) : weight(p, q);
  }

  static void add_each(uint64_t features, double value, double* to) {
    for (; features != 0; features &= features - 1) to[std::countr_zero(features)] += value;
  }

  void descend(const PathGroups::Node& node, double factor, double* to) const {
    if (node.children == 0) {
      to[std::countr_zero(node.features)] += (node.features & mine_) != 0 ? factor : -factor;
      return;
    }
    const Kinds all = kinds(node);
    if (all.mixed > 1) return;
    for (uint32_t c = 0; c < node.children; ++c) {
      const PathGroups::Node& child = groups_.nodes[node.first + c];
      if (!counts(child)) continue;
      if (const double share = without(all, kind(child)); share != 0) descend(child, factor * share, to);
    }
  }

  // Afterwards inside_ of the node's features holds the levels below it.
  void pairs_below(const PathGroups::Node& node, double above, InteractionIndex index, size_t features, double* to) {
    if (node.children == 0) return;
    const Kinds all = kinds(node);
    for (uint32_t c = 0; c < node.children; ++c) {
      const PathGroups::Node& child = groups_.nodes[node.first + c];
      if (counts(child)) pairs_below(child, above * without(all, kind(child)), index, features, to);
    }
    for (uint32_t c = 0; c < node.children; ++c) {
      for (uint32_t d = c + 1; d < node.children; ++d) {
        const PathGroups::Node &one = groups_.nodes[node.first + c], &other = groups_.nodes[node.first + d];
        if (!counts(one) || !counts(other)) continue;
        if (const double parting = above * without(all, kind(one), kind(other), index); parting != 0) add_pairs(one.features, other.features, parting, features, to);
      }
    }
    for (uint32_t c = 0; c < node.children; ++c) {
      const PathGroups::Node& child = groups_.nodes[node.first + c];
      const double alone = without(all, kind(child));
      for (uint64_t left = child.features & (mine_ | theirs_); left != 0; left &= left - 1) inside_[std::countr_zero(left)] *= alone;
    }
  }

  void add_pairs(uint64_t ones, uint64_t others, double parting, size_t features, double* to) const {
    for (uint64_t i = ones & (mine_ | theirs_); i != 0; i &= i - 1) {
      const auto a = static_cast<size_t>(std::countr_zero(i));
      for (uint64_t j = others & (mine_ | theirs_); j != 0; j &= j - 1) {
        const auto b = static_cast<size_t>(std::countr_zero(j));
        to[std::min(a, b) * features + std::max(a, b)] += parting * inside_[a] * inside_[b];
      }
    }
  }

  const PathGroups& groups_;
  uint64_t mine_, theirs_;
  double inside_[kMostPathFeatures];  // of pairs()
};

// The leaves of some trees, with what the background follows of each path.
class Prepared {
 public:
  Prepared(const TreeEnsemble& model, const FeatureTree& features, std::span<const double> background, int threads)
      : model_(model), background_(background), grouper_(features), team_(threads) {}

  // body(tree, its leaves, first row, end) for pieces of `count` rows and every tree, in the trees' order for each row; on all threads.
  template <typename Body>
  void for_each_tree(int64_t count, const Body& body) {
    for (size_t first = 0, n = 0; first < model_.trees.size(); first += n) {
      n = trees_from(first);
      std::vector<std::vector<Leaf>> leaves(n);
      const int64_t piece = std::max<int64_t>(1, (count + team_.size() - 1) / team_.size());
      team_.run([&](int) {
        team_.share(static_cast<int64_t>(n), 1, [&](int64_t from, int64_t to) {
          for (int64_t t = from; t < to; ++t) leaves[static_cast<size_t>(t)] = leaves_of(model_.trees[first + static_cast<size_t>(t)]);
        });
      });
      team_.run([&](int) {
        team_.share(count, piece, [&](int64_t from, int64_t to) {
          for (size_t t = 0; t < n; ++t) body(model_.trees[first + t], leaves[t], from, to);
        });
      });
    }
  }

 private:
  [[nodiscard]] size_t trees_from(size_t first) const {
    size_t n = 0, nodes = 0;
    while (first + n < model_.trees.size() && n < kTreesAtATime && (n == 0 || nodes < kNodesAtATime)) nodes += model_.trees[first + n++].nodes.size();
    return n;
  }

  std::vector<Leaf> leaves_of(const Tree& tree) const {
    std::vector<Leaf> leaves;
    Leaf path;
    collect(tree, 0, path, leaves);
    const Decisions theirs(model_, tree, background_);
    std::vector<uint64_t> patterns;
    for (Leaf& leaf : leaves) {
      theirs.patterns(leaf, patterns, background_.size() / static_cast<size_t>(model_.feature_count()));
      leaf.background = shares_of(patterns);
      leaf.groups = grouper_(leaf.features);
    }
    return leaves;
  }

  const TreeEnsemble& model_;
  std::span<const double> background_;
  Grouper grouper_;
  hardware::Team team_;
};

// Numbers of different patterns, in the order in which they come.
class PatternNumbers {
 public:
  explicit PatternNumbers(size_t most) : slots_(std::bit_ceil(2 * most + 2)) {}

  void clear() {
    ++round_;
    count_ = 0;
  }
  // The pattern's number, and whether it is new.
  std::pair<size_t, bool> operator()(uint64_t pattern) {
    size_t at = (pattern * 0x9E3779B97F4A7C15u >> 20) & (slots_.size() - 1);
    for (; slots_[at].round == round_; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].pattern == pattern) return {slots_[at].number, false};
    }
    slots_[at] = {pattern, count_, round_};
    return {count_++, true};
  }

 private:
  struct Slot {
    uint64_t pattern = 0;
    size_t number = 0, round = 0;
  };
  std::vector<Slot> slots_;
  size_t round_ = 0, count_ = 0;
};

// add(leaf, row, sums of its pattern) for the rows [from, to) and each leaf; fill(leaf, game, factor, sums) makes them of `size(leaf)` numbers.
template <typename Size, typename Fill, typename Add>
void by_patterns(const TreeEnsemble& model, const Tree& tree, const std::vector<Leaf>& leaves, std::span<const double> rows, int64_t from, int64_t to, const Size& size, const Fill& fill,
                 const Add& add) {
  const auto features = static_cast<size_t>(model.feature_count()), count = static_cast<size_t>(to - from);
  const Decisions decisions(model, tree, rows.subspan(static_cast<size_t>(from) * features, count * features));
  std::vector<uint64_t> patterns;
  PatternNumbers numbers(count);
  std::vector<double> sums;
  for (const Leaf& leaf : leaves) {
    decisions.patterns(leaf, patterns, count);
    numbers.clear();
    sums.clear();
    const size_t each = size(leaf);
    for (size_t r = 0; r < count; ++r) {
      const uint64_t follows = patterns[r];
      const auto [number, fresh] = numbers(follows);
      if (fresh) {
        sums.resize(sums.size() + each);
        for (const auto& [pattern, share] : leaf.background) {
          if ((follows | pattern) != leaf.all() || follows == pattern) continue;
          PatternGame game(leaf.groups, follows & ~pattern, pattern & ~follows);
          fill(leaf, game, leaf.value * share, sums.data() + number * each);
        }
      }
      add(leaf, static_cast<size_t>(from) + r, std::span<const double>(sums).subspan(number * each, each));
    }
  }
}

}  // namespace

TreeAttribution background_winter(const TreeEnsemble& model, const FeatureTree& features, std::span<const double> rows, std::span<const double> background, int threads) {
  const auto width = static_cast<size_t>(model.feature_count()), count = rows.size() / width, outputs = static_cast<size_t>(model.outputs()), nodes = features.nodes.size();
  TreeAttribution result{std::vector<double>(count * outputs * nodes), std::vector<double>(outputs)};
  const std::vector<double> scores = raw_scores(model, background);
  for (size_t i = 0; i < scores.size(); ++i) result.base[i % outputs] += scores[i] / static_cast<double>(scores.size() / outputs);
  const std::vector<int32_t> place = features.leaves();
  Prepared(model, features, background, threads).for_each_tree(static_cast<int64_t>(count), [&](const Tree& tree, const std::vector<Leaf>& leaves, int64_t from, int64_t to) {
    by_patterns(
        model, tree, leaves, rows, from, to, [](const Leaf& leaf) { return leaf.features.size(); },
        [](const Leaf&, PatternGame& game, double factor, double* sums) { game.values(factor, sums); },
        [&](const Leaf& leaf, size_t row, std::span<const double> values) {
          double* of_row = result.values.data() + (row * outputs + static_cast<size_t>(tree.output)) * nodes;
          for (size_t j = 0; j < values.size(); ++j) of_row[place[static_cast<size_t>(leaf.features[j])]] += values[j];
        });
  });
  for (size_t first = 0; first < count * outputs; ++first) features.add_up(std::span(result.values).subspan(first * nodes, nodes));
  return result;
}

std::vector<double> background_winter_interactions(const TreeEnsemble& model, const FeatureTree& features, std::span<const double> rows, int64_t output, InteractionIndex index,
                                                   std::span<const double> background, int threads) {
  const auto n = static_cast<size_t>(model.feature_count()), count = rows.size() / n;
  std::vector<double> pairs(count * n * n);
  Prepared(model, features, background, threads).for_each_tree(static_cast<int64_t>(count), [&](const Tree& tree, const std::vector<Leaf>& leaves, int64_t from, int64_t to) {
    if (tree.output != output) return;
    by_patterns(
        model, tree, leaves, rows, from, to, [](const Leaf& leaf) { return leaf.features.size() * leaf.features.size(); },
        [&](const Leaf& leaf, PatternGame& game, double factor, double* sums) { game.pairs(factor, index, leaf.features.size(), sums); },
        [&](const Leaf& leaf, size_t row, std::span<const double> found) {
          const size_t m = leaf.features.size();
          double* of_row = pairs.data() + row * n * n;
          for (size_t a = 0; a < m; ++a) {
            for (size_t b = a + 1; b < m; ++b) {
              if (found[a * m + b] == 0) continue;
              const auto i = static_cast<size_t>(leaf.features[a]), j = static_cast<size_t>(leaf.features[b]);
              of_row[i * n + j] += found[a * m + b];
              of_row[j * n + i] += found[a * m + b];
            }
          }
        });
  });
  return pairs;
}

TreeAttribution interventional_tree_shap(const TreeEnsemble& model, std::span<const double> rows, std::span<const double> background, int threads) {
  TreeAttribution found = background_winter(model, flat_tree(model.features), rows, background, threads);
  const size_t nodes = model.features.size() + 1;
  std::vector<double> values;
  for (size_t first = 0; first < found.values.size(); first += nodes) values.insert(values.end(), found.values.begin() + static_cast<int64_t>(first) + 1, found.values.begin() + static_cast<int64_t>(first + nodes));
  return {std::move(values), std::move(found.base)};
}

}  // namespace deepseek::explain
