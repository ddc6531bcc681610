#include "explain/tree_ensemble.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace deepseek::explain {
namespace {

using base::Status;

constexpr size_t kMostDepth = 4096;  // of recursion over a tree

Status check_node(const TreeEnsemble& model, const Tree& tree, size_t index, std::vector<char>& has_parent) {
  const TreeNode& node = tree.nodes[index];
  if (!std::isfinite(node.cover) || node.cover < 0) return base::fail("node {} has a cover of {}", index, node.cover);
  if (node.feature < 0) return std::isfinite(node.value) ? Status{} : base::fail("leaf {} has the value {}", index, node.value);
  if (node.feature >= model.feature_count()) return base::fail("node {} splits by feature {} of {}", index, node.feature, model.feature_count());
  if (std::isnan(node.threshold)) return base::fail("node {} has the threshold NaN", index);
  if (node.categories >= 0 && static_cast<size_t>(node.categories) >= tree.category_sets.size()) return base::fail("node {} names a set of categories that is not there", index);
  for (const int32_t child : {node.left, node.right}) {
    if (child <= static_cast<int32_t>(index) || static_cast<size_t>(child) >= tree.nodes.size()) return base::fail("node {} has the child {} of {} nodes", index, child, tree.nodes.size());
    if (std::exchange(has_parent[static_cast<size_t>(child)], 1) != 0) return base::fail("node {} has two parents", child);
  }
  return {};
}

// Depth and different features of the path to each node; children come after their parents.
Status check_paths(const Tree& tree) {
  std::vector<size_t> depth(tree.nodes.size());
  std::vector<int32_t> parent(tree.nodes.size(), -1);
  for (size_t n = 0; n < tree.nodes.size(); ++n) {
    const TreeNode& node = tree.nodes[n];
    if (node.feature >= 0) {
      for (const int32_t child : {node.left, node.right}) {
        depth[static_cast<size_t>(child)] = depth[n] + 1;
        parent[static_cast<size_t>(child)] = static_cast<int32_t>(n);
      }
      continue;
    }
    if (depth[n] > kMostDepth) return base::fail("leaf {} lies {} splits deep; {} are walked", n, depth[n], kMostDepth);
    if (depth[n] <= kMostPathFeatures) continue;
    std::set<int32_t> features;
    for (int32_t at = parent[n]; at >= 0; at = parent[static_cast<size_t>(at)]) features.insert(tree.nodes[static_cast<size_t>(at)].feature);
    if (features.size() > kMostPathFeatures) return base::fail("the path to leaf {} asks for {} different features; {} are the most", n, features.size(), kMostPathFeatures);
  }
  return {};
}

bool is_missing(const TreeNode& node, double x) {
  switch (node.missing) {
    case TreeNode::Missing::kNan: return std::isnan(x);
    case TreeNode::Missing::kZero: return std::isnan(x) || std::abs(x) <= 1e-35;  // LightGBM's kZeroThreshold
    case TreeNode::Missing::kNone: return false;
  }
  return false;
}

}  // namespace

bool goes_left(const Tree& tree, const TreeNode& node, double x) {
  if (is_missing(node, x)) return node.default_left;
  if (std::isnan(x)) x = 0;
  if (node.categories < 0) return x <= node.threshold;
  const std::vector<uint32_t>& set = tree.category_sets[static_cast<size_t>(node.categories)];
  if (!(x >= 0) || x >= static_cast<double>(set.size() * 32)) return node.others_left;
  const auto category = static_cast<size_t>(x);
  return (set[category / 32] >> (category % 32) & 1) != 0;
}

std::vector<double> raw_scores(const TreeEnsemble& model, std::span<const double> rows) {
  const auto features = static_cast<size_t>(model.feature_count()), outputs = static_cast<size_t>(model.outputs());
  std::vector<double> scores(rows.size() / features * outputs), row(features);
  for (size_t r = 0; r * features < rows.size(); ++r) {
    for (size_t j = 0; j < features; ++j) row[j] = model.float_inputs ? static_cast<float>(rows[r * features + j]) : rows[r * features + j];
    std::copy(model.base.begin(), model.base.end(), scores.begin() + static_cast<int64_t>(r * outputs));
    for (const Tree& tree : model.trees) {
      const TreeNode* node = tree.nodes.data();
      while (node->feature >= 0) node = &tree.nodes[static_cast<size_t>(goes_left(tree, *node, row[static_cast<size_t>(node->feature)]) ? node->left : node->right)];
      scores[r * outputs + static_cast<size_t>(tree.output)] += node->value;
    }
  }
  return scores;
}

Status check_ensemble(const TreeEnsemble& model) {
  if (model.trees.empty()) return base::fail("there are no trees");
  if (model.features.empty()) return base::fail("there are no features");
  for (const double base : model.base) {
    if (!std::isfinite(base)) return base::fail("an output begins at {}", base);
  }
  for (size_t t = 0; t < model.trees.size(); ++t) {
    const Tree& tree = model.trees[t];
    const std::string where = fmt::format("tree {}", t);
    if (tree.nodes.empty()) return base::within(where, {"it has no nodes"});
    if (tree.output < 0 || tree.output >= model.outputs()) return base::within(where, {fmt::format("it adds to output {} of {}", tree.output, model.outputs())});
    std::vector<char> has_parent(tree.nodes.size());
    for (size_t n = 0; n < tree.nodes.size(); ++n) {
      if (Status ok = check_node(model, tree, n, has_parent); !ok) return base::within(where, ok.error());
    }
    if (Status ok = check_paths(tree); !ok) return base::within(where, ok.error());
  }
  return {};
}

}  // namespace deepseek::explain
