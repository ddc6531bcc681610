// Values and interactions on a tree of features. A leaf's game is a product over the features of its path (tree_shap.h); groups of them are products too, so that a
// level of the tree is the same integral over groups, and a feature's value the product of the integrals of the levels above it.
#include <algorithm>

#include "explain/tree_shap/path_walk.h"
#include "explain/tree_shap/tree_shap.h"
#include "hardware/team.h"

namespace deepseek::explain {
namespace {

// A number for each row of a block.
struct Wide {
  Doubles v[kVectors];
};
EXPLAIN_INLINE Wide wide(double x) {
  Wide w;
  for (Doubles& d : w.v) d = splat(x);
  return w;
}
EXPLAIN_INLINE Wide operator*(const Wide& a, const Wide& b) {
  Wide c;
  for (int i = 0; i < kVectors; ++i) c.v[i] = a.v[i] * b.v[i];
  return c;
}
EXPLAIN_INLINE Wide operator-(const Wide& a, const Wide& b) {
  Wide c;
  for (int i = 0; i < kVectors; ++i) c.v[i] = a.v[i] - b.v[i];
  return c;
}
EXPLAIN_INLINE void add_scaled(Wide& to, double by, const Wide& a) {
  for (int i = 0; i < kVectors; ++i) to.v[i] += by * a.v[i];
}
// t in + (1 - t) out
EXPLAIN_INLINE Wide mix(double t, const Wide& in, const Wide& out) {
  Wide c;
  for (int i = 0; i < kVectors; ++i) c.v[i] = out.v[i] + t * (in.v[i] - out.v[i]);
  return c;
}

// A feature of the path, or a group of them: what it multiplies the leaf by when it is in and when it is out.
struct Part {
  int64_t feature = 0;
  Wide in, out;
};

class LeafGame {
 public:
  explicit LeafGame(const FeatureTree& tree) : chains_(tree.chains()) {}

  // To be filled with the features of the path, in any order.
  std::vector<Part>& parts() { return parts_; }

  /// visit(feature, value without the leaf's own) for each feature.
  template <typename Visit>
  void values(const Visit& visit) {
    sort();
    descend(0, parts_.size(), 0, wide(1), visit);
  }

  /// visit(first, second, interaction without the leaf's own) for each pair of features.
  template <typename Visit>
  void pairs(InteractionIndex index, const Visit& visit) {
    sort();
    index_ = index;
    differences_.clear();
    for (const Part& part : parts_) differences_.push_back(part.in - part.out);
    pairs_below(0, parts_.size(), 0, wide(1), visit);
  }

 private:
  // Groups lie together then.
  void sort() {
    std::sort(parts_.begin(), parts_.end(), [&](const Part& a, const Part& b) { return chains_[static_cast<size_t>(a.feature)] < chains_[static_cast<size_t>(b.feature)]; });
  }

  // Where the parts from `first` to `last`, which share the first `depth` + 1 nodes of their chains, fall apart: bounds of the children that hold some.
  std::vector<size_t> bounds(size_t first, size_t last, size_t& depth) const {
    for (;; ++depth) {
      std::vector<size_t> found{first};
      const auto node = [&](size_t i) { return chains_[static_cast<size_t>(parts_[i].feature)][depth + 1]; };
      for (size_t i = first + 1; i < last; ++i) {
        if (node(i) != node(i - 1)) found.push_back(i);
      }
      found.push_back(last);
      if (found.size() > 2) return found;
    }
  }

  std::vector<Part> groups(const std::vector<size_t>& at) const {
    std::vector<Part> found;
    for (size_t c = 0; c + 1 < at.size(); ++c) {
      Part group = parts_[at[c]];
      for (size_t i = at[c] + 1; i < at[c + 1]; ++i) group.in = group.in * parts_[i].in, group.out = group.out * parts_[i].out;
      found.push_back(group);
    }
    return found;
  }

  // Integral over t of the product of all groups but one or two.
  static Wide integral(const std::vector<Part>& groups, size_t without, size_t also, InteractionIndex index) {
    const int extra = index == InteractionIndex::kFaith ? 2 : 0;
    const Quadrature& q = quadrature(std::clamp((static_cast<int>(groups.size()) - 1 + extra) / 2 + 1, 1, kMostPathFeatures / 2));
    Wide sum = wide(0);
    for (int n = 0; n < q.count; ++n) {
      Wide product = wide(1);
      for (size_t s = 0; s < groups.size(); ++s) {
        if (s != without && s != also) product = product * mix(q.at[n], groups[s].in, groups[s].out);
      }
      add_scaled(sum, q.weight[n] * density(q.at[n], index), product);
    }
    return sum;
  }

  template <typename Visit>
  void descend(size_t first, size_t last, size_t depth, const Wide& above, const Visit& visit) {
    if (last - first == 1) {
      visit(parts_[first].feature, above * (parts_[first].in - parts_[first].out));
      return;
    }
    const std::vector<size_t> at = bounds(first, last, depth);
    const std::vector<Part> children = groups(at);
    for (size_t c = 0; c < children.size(); ++c) descend(at[c], at[c + 1], depth + 1, above * integral(children, c, c, InteractionIndex::kShapley), visit);
  }

  // Afterwards differences_ of these parts hold the levels below this node.
  template <typename Visit>
  void pairs_below(size_t first, size_t last, size_t depth, const Wide& above, const Visit& visit) {
    if (last - first == 1) return;
    const std::vector<size_t> at = bounds(first, last, depth);
    const std::vector<Part> children = groups(at);
    std::vector<Wide> alone;
    for (size_t c = 0; c < children.size(); ++c) {
      alone.push_back(integral(children, c, c, InteractionIndex::kShapley));
      pairs_below(at[c], at[c + 1], depth + 1, above * alone.back(), visit);
    }
    for (size_t c = 0; c < children.size(); ++c) {
      for (size_t d = c + 1; d < children.size(); ++d) {
        const Wide parting = above * integral(children, c, d, index_);
        for (size_t i = at[c]; i < at[c + 1]; ++i) {
          for (size_t j = at[d]; j < at[d + 1]; ++j) visit(parts_[i].feature, parts_[j].feature, parting * differences_[i] * differences_[j]);
        }
      }
    }
    for (size_t c = 0; c < children.size(); ++c) {
      for (size_t i = at[c]; i < at[c + 1]; ++i) differences_[i] = differences_[i] * alone[c];
    }
  }

  std::vector<std::vector<int32_t>> chains_;
  std::vector<Part> parts_;
  std::vector<Wide> differences_;
  InteractionIndex index_ = InteractionIndex::kShapley;
};

// Rows that follow the path, against the shares of training rows.
void fill_by_shares(std::span<const PathElement> path, std::vector<Part>& parts) {
  parts.resize(path.size());
  for (size_t i = 0; i < path.size(); ++i) {
    parts[i].feature = path[i].feature;
    for (int v = 0; v < kVectors; ++v) parts[i].in.v[v] = pick(path[i].follows[v], 1, 0);
    parts[i].out = wide(path[i].share);
  }
}

// Leaves' values to [rows, outputs, nodes].
struct Values {
  const TreeEnsemble& model;
  const FeatureTree& features;
  std::vector<int32_t> leaf;
  std::span<const double> rows;
  std::vector<double>& to;

  [[nodiscard]] double& at(int64_t row, int64_t output, int64_t feature) const {
    const auto nodes = features.nodes.size();
    return to[(static_cast<size_t>(row) * static_cast<size_t>(model.outputs()) + static_cast<size_t>(output)) * nodes + static_cast<size_t>(leaf[static_cast<size_t>(feature)])];
  }

  // A block of rows by the shares of training rows.
  void of_rows(int64_t first, LeafGame& game, PathWalk& walk) const {
    const int64_t n = model.feature_count(), count = std::min<int64_t>(kBlockRows, static_cast<int64_t>(rows.size()) / n - first);
    std::vector<double> columns(static_cast<size_t>(n * kBlockRows));
    auto* const block = reinterpret_cast<Doubles*>(columns.data());
    to_columns(model, rows.subspan(static_cast<size_t>(first * n), static_cast<size_t>(count * n)), block);
    std::vector<Wide> sums(static_cast<size_t>(n * model.outputs()), wide(0));
    for (const Tree& tree : model.trees) {
      walk.leaves(tree, block, [&](std::span<const PathElement> path, double value) {
        fill_by_shares(path, game.parts());
        game.values([&](int64_t feature, const Wide& phi) { add_scaled(sums[static_cast<size_t>(tree.output * n + feature)], value, phi); });
      });
    }
    for (int64_t i = 0; i < n * model.outputs(); ++i) {
      for (int64_t r = 0; r < count; ++r) at(first + r, i / n, i % n) = sums[static_cast<size_t>(i)].v[r / kLanes][r % kLanes];
    }
  }
};

}  // namespace

TreeAttribution tree_winter(const TreeEnsemble& model, const FeatureTree& features, std::span<const double> rows, const TreeWorth& worth) {
  if (!worth.background.empty()) return background_winter(model, features, rows, worth.background, worth.threads);
  const auto count = static_cast<int64_t>(rows.size()) / model.feature_count(), outputs = model.outputs(), nodes = static_cast<int64_t>(features.nodes.size());
  TreeAttribution result{std::vector<double>(static_cast<size_t>(count * outputs * nodes)), expected_scores(model)};
  const Values values{model, features, features.leaves(), rows, result.values};
  hardware::Team team(worth.threads);
  team.run([&](int) {
    LeafGame game(features);
    PathWalk walk;
    team.share((count + kBlockRows - 1) / kBlockRows, 1, [&](int64_t from, int64_t to) {
      for (int64_t block = from; block < to; ++block) values.of_rows(block * kBlockRows, game, walk);
    });
  });
  for (int64_t first = 0; first < count * outputs; ++first) features.add_up(std::span(result.values).subspan(static_cast<size_t>(first * nodes), static_cast<size_t>(nodes)));
  return result;
}

std::vector<double> tree_winter_interactions(const TreeEnsemble& model, const FeatureTree& features, std::span<const double> rows, int64_t output, InteractionIndex index,
                                             const TreeWorth& worth) {
  if (!worth.background.empty()) return background_winter_interactions(model, features, rows, output, index, worth.background, worth.threads);
  const auto n = model.feature_count(), count = static_cast<int64_t>(rows.size()) / n;
  std::vector<double> pairs(rows.size() * static_cast<size_t>(n));
  hardware::Team team(worth.threads);
  team.run([&](int) {
    LeafGame game(features);
    PathWalk walk;
    std::vector<double> columns(static_cast<size_t>(n * kBlockRows));
    auto* const block = reinterpret_cast<Doubles*>(columns.data());
    team.share((count + kBlockRows - 1) / kBlockRows, 1, [&](int64_t from, int64_t to) {
      for (int64_t b = from; b < to; ++b) {
        const int64_t first = b * kBlockRows, in_block = std::min<int64_t>(kBlockRows, count - first);
        to_columns(model, rows.subspan(static_cast<size_t>(first * n), static_cast<size_t>(in_block * n)), block);
        for (const Tree& tree : model.trees) {
          if (tree.output != output) continue;
          walk.leaves(tree, block, [&](std::span<const PathElement> path, double value) {
            fill_by_shares(path, game.parts());
            game.pairs(index, [&](int64_t i, int64_t j, const Wide& phi) {
              for (int64_t r = 0; r < in_block; ++r) {
                const double found = value * phi.v[r / kLanes][r % kLanes];
                pairs[static_cast<size_t>(((first + r) * n + i) * n + j)] += found;
                pairs[static_cast<size_t>(((first + r) * n + j) * n + i)] += found;
              }
            });
          });
        }
      }
    });
  });
  return pairs;
}

}  // namespace deepseek::explain
