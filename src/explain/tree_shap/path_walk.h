// Walks a tree from leaf to leaf with a block of rows: which features lie on the path to the leaf, what share of the training rows each let
// through, and which rows of the block follow it there.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "explain/tree_ensemble.h"
#include "explain/tree_shap/quadrature.h"
#include "explain/vectors.h"

namespace deepseek::explain {

constexpr int kVectors = 8, kBlockRows = kLanes * kVectors;

struct PathElement {
  int64_t feature = 0;
  double share = 1;               ///< of the rows, over all splits by this feature
  const Bits* follows = nullptr;  ///< [kVectors]: all bits where the row of the block goes this way at each of them
};

/// Part of a split's training rows that went to one child.
[[nodiscard]] inline double share_of(const Tree& tree, const TreeNode& node, int32_t child) {
  return node.cover > 0 ? tree.nodes[static_cast<size_t>(child)].cover / node.cover : 0;
}

/// What the trees give for an output each when nothing is known.
[[nodiscard]] std::vector<double> expected_scores(const TreeEnsemble& model);

/// Rows [up to kBlockRows, features] to columns [features][kVectors], rounded as the model reads them; absent rows repeat the last one.
void to_columns(const TreeEnsemble& model, std::span<const double> rows, Doubles* columns);

class PathWalk {
 public:
  /// visit(path, value) for every leaf below the root that depends on some feature. The tree has passed check_ensemble().
  template <typename Visit>
  void leaves(const Tree& tree, const Doubles* columns, const Visit& visit) {
    if (tree.nodes[0].feature < 0) return;
    path_.clear();
    descend(tree, 0, columns, visit, 0);
  }

 private:
  struct Level {
    Bits left[kVectors], follows[kVectors];
  };

  template <typename Visit>
  void descend(const Tree& tree, int32_t at, const Doubles* columns, const Visit& visit, size_t depth) {
    const TreeNode& node = tree.nodes[static_cast<size_t>(at)];
    if (node.feature < 0) {
      if (node.value != 0) visit(std::span<const PathElement>(path_), node.value);
      return;
    }
    if (levels_.size() <= depth) levels_.push_back(std::make_unique<Level>());
    Level& level = *levels_[depth];
    decide(tree, node, columns + int64_t{node.feature} * kVectors, level.left);
    size_t place = 0;
    while (place < path_.size() && path_[place].feature != node.feature) ++place;
    const bool added = place == path_.size();
    if (added) path_.push_back({node.feature, 1, nullptr});
    const PathElement before = path_[place];
    for (const int32_t child : {node.left, node.right}) {
      narrow(before.follows, level.left, child == node.left, level.follows);
      path_[place] = {node.feature, before.share * share_of(tree, node, child), level.follows};
      descend(tree, child, columns, visit, depth + 1);
    }
    path_[place] = before;
    if (added) path_.pop_back();
  }

  static void decide(const Tree& tree, const TreeNode& node, const Doubles* column, Bits* left);
  static void narrow(const Bits* before, const Bits* left, bool to_left, Bits* follows);

  std::vector<PathElement> path_;
  std::vector<std::unique_ptr<Level>> levels_;
};

}  // namespace deepseek::explain
