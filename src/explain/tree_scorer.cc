#include "explain/tree_scorer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "hardware/cpu.h"
#include "hardware/team.h"

namespace deepseek::explain {
namespace {

constexpr uint32_t kNanLeft = 1u << 31, kCategory = 1u << 30, kColumn = kCategory - 1;
constexpr size_t kLanes = 16;        // rows in flight: what hides the latency of a node's load
constexpr size_t kBlockRows = 128;   // share a tree's nodes while they are in the cache
constexpr size_t kMostWide = size_t{1} << 20;  // numbers of a block: 8 MiB a thread
constexpr size_t kAloneBelow = 200'000;  // rows x trees: less is done before other threads have begun

}  // namespace

TreeScorer::TreeScorer(std::shared_ptr<const TreeEnsemble> model) : model_(std::move(model)), features_(static_cast<size_t>(model_->feature_count())),
      block_rows_(std::clamp(kMostWide / (3 * features_) / kLanes * kLanes, kLanes, kBlockRows)) {
  for (const Tree& tree : model_->trees) pack(tree);
}

// Breadth first, so that the two children of a node lie beside each other.
void TreeScorer::pack(const Tree& tree) {
  Packed packed{.first = static_cast<uint32_t>(nodes_.size())};
  std::vector<int32_t> from{0};  // the tree's node of each packed one
  std::vector<int> depth{0};
  for (size_t n = 0; n < from.size(); ++n) {
    const TreeNode& node = tree.nodes[static_cast<size_t>(from[n])];
    packed.depth = std::max(packed.depth, depth[n]);
    const uint32_t copy = node.missing == TreeNode::Missing::kNan ? 0 : node.missing == TreeNode::Missing::kNone ? 1 : 2;
    Node made{.threshold = std::numeric_limits<double>::infinity(), .column = kNanLeft, .left = static_cast<uint32_t>(n)};
    if (node.feature >= 0) {
      made = {.threshold = node.threshold, .column = static_cast<uint32_t>(node.feature) + copy * static_cast<uint32_t>(features_), .left = static_cast<uint32_t>(from.size())};
      if (node.default_left) made.column |= kNanLeft;
      if (node.categories >= 0) made.column |= kCategory;
      packed.categories |= node.categories >= 0;
      for (const int32_t child : {node.left, node.right}) {
        from.push_back(child);
        depth.push_back(depth[n] + 1);
      }
    }
    nodes_.push_back(made);
    values_.push_back(node.value);
    categories_.push_back(node.categories);
    others_left_.push_back(node.others_left ? 1 : 0);
  }
  trees_.push_back(packed);
}

// The row three times: NaN is missing, NaN is 0, zero is missing too.
void TreeScorer::widen(std::span<const double> row, double* wide) const {
  for (size_t j = 0; j < features_; ++j) {
    const double x = model_->float_inputs ? static_cast<double>(static_cast<float>(row[j])) : row[j];
    wide[j] = x;
    wide[j + features_] = std::isnan(x) ? 0 : x;
    wide[j + 2 * features_] = std::abs(x) <= 1e-35 ? std::numeric_limits<double>::quiet_NaN() : x;  // LightGBM's kZeroThreshold
  }
}

template <bool kCategories>
void TreeScorer::descend(const Packed& tree, size_t index, const double* wide, uint32_t* at) const {
  const Node* nodes = nodes_.data() + tree.first;
  const size_t stride = 3 * features_;
  for (int level = 0; level < tree.depth; ++level) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const Node& node = nodes[at[lane]];
      const double x = wide[lane * stride + (node.column & kColumn)];
      bool left = x <= node.threshold;
      if constexpr (kCategories) {
        if ((node.column & kCategory) != 0 && !std::isnan(x)) {
          const size_t n = tree.first + at[lane];
          const auto& set = model_->trees[index].category_sets[static_cast<size_t>(categories_[n])];
          const bool inside = x >= 0 && x < static_cast<double>(set.size() * 32);
          const size_t category = inside ? static_cast<size_t>(x) : 0;
          left = inside ? (set[category / 32] >> (category % 32) & 1) != 0 : others_left_[n] != 0;
        }
      }
      left |= std::isnan(x) & ((node.column & kNanLeft) != 0);
      at[lane] = node.left + (left ? 0u : 1u);
    }
  }
}

void TreeScorer::score_block(std::span<const double> rows, std::span<double> scores, std::vector<double>& wide) const {
  const size_t count = rows.size() / features_, stride = 3 * features_, outputs = model_->base.size();
  wide.assign(block_rows_ * stride, 0);
  for (size_t r = 0; r < count; ++r) {
    widen(rows.subspan(r * features_, features_), wide.data() + r * stride);
    std::copy(model_->base.begin(), model_->base.end(), scores.begin() + static_cast<int64_t>(r * outputs));
  }
  for (size_t t = 0; t < trees_.size(); ++t) {
    const Packed& tree = trees_[t];
    const double* values = values_.data() + tree.first;
    const auto output = static_cast<size_t>(model_->trees[t].output);
    for (size_t first = 0; first < count; first += kLanes) {
      uint32_t at[kLanes] = {};
      if (tree.categories) descend<true>(tree, t, wide.data() + first * stride, at);
      else descend<false>(tree, t, wide.data() + first * stride, at);
      for (size_t r = first; r < std::min(count, first + kLanes); ++r) scores[r * outputs + output] += values[at[r - first]];
    }
  }
}

std::vector<double> TreeScorer::operator()(std::span<const double> rows, int threads) const {
  const size_t count = rows.size() / features_, outputs = model_->base.size();
  std::vector<double> scores(count * outputs);
  const auto block = [&](int64_t b, std::vector<double>& wide) {
    const size_t first = static_cast<size_t>(b) * block_rows_, n = std::min(block_rows_, count - first);
    score_block(rows.subspan(first * features_, n * features_), std::span(scores).subspan(first * outputs, n * outputs), wide);
  };
  const auto blocks = static_cast<int64_t>((count + block_rows_ - 1) / block_rows_);
  if (threads == 1 || blocks < 2 || count * trees_.size() < kAloneBelow) {
    std::vector<double> wide;
    for (int64_t b = 0; b < blocks; ++b) block(b, wide);
    return scores;
  }
  hardware::Team team(threads);
  team.run([&](int) {
    std::vector<double> wide;
    team.share(blocks, 1, [&](int64_t from, int64_t to) {
      for (int64_t b = from; b < to; ++b) block(b, wide);
    });
  });
  return scores;
}

}  // namespace deepseek::explain
