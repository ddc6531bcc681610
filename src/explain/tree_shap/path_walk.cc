#include "explain/tree_shap/path_walk.h"

#include <algorithm>

namespace deepseek::explain {

std::vector<double> expected_scores(const TreeEnsemble& model) {
  std::vector<double> scores = model.base;
  for (const Tree& tree : model.trees) {
    std::vector<double> reach(tree.nodes.size());
    reach[0] = 1;
    for (size_t n = 0; n < tree.nodes.size(); ++n) {  // children come after their parent
      const TreeNode& node = tree.nodes[n];
      if (node.feature < 0) {
        scores[static_cast<size_t>(tree.output)] += reach[n] * node.value;
        continue;
      }
      for (const int32_t child : {node.left, node.right}) reach[static_cast<size_t>(child)] = reach[n] * share_of(tree, node, child);
    }
  }
  return scores;
}

void to_columns(const TreeEnsemble& model, std::span<const double> rows, Doubles* columns) {
  const int64_t features = model.feature_count(), count = static_cast<int64_t>(rows.size()) / features;
  for (int64_t r = 0; r < kBlockRows; ++r) {
    const double* row = rows.data() + std::min(r, count - 1) * features;
    for (int64_t j = 0; j < features; ++j) columns[j * kVectors + r / kLanes][r % kLanes] = model.float_inputs ? static_cast<float>(row[j]) : row[j];
  }
}

void PathWalk::decide(const Tree& tree, const TreeNode& node, const Doubles* column, Bits* left) {
  if (node.categories < 0 && node.missing == TreeNode::Missing::kNan) {
    const Bits missing = Bits{} - static_cast<int64_t>(node.default_left);
    for (int v = 0; v < kVectors; ++v) left[v] = (column[v] <= splat(node.threshold)) | ((column[v] != column[v]) & missing);
    return;
  }
  for (int v = 0; v < kVectors; ++v) {
    for (int j = 0; j < kLanes; ++j) left[v][j] = goes_left(tree, node, column[v][j]) ? -1 : 0;
  }
}

void PathWalk::narrow(const Bits* before, const Bits* left, bool to_left, Bits* follows) {
  for (int v = 0; v < kVectors; ++v) {
    const Bits way = to_left ? left[v] : ~left[v];
    follows[v] = before == nullptr ? way : way & before[v];
  }
}

}  // namespace deepseek::explain
