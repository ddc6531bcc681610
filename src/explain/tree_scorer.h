// Scores of a tree ensemble for many rows: what the estimators ask a tree model for, thousands of times a sample.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "explain/tree_ensemble.h"

namespace deepseek::explain {

/// The ensemble's trees in a form that sixteen rows descend side by side: children lie beside each other, a leaf leads to itself, and every way of missing is
/// the one of NaN in one of three copies of a row.
class TreeScorer {
 public:
  /// An ensemble that check_ensemble() accepts.
  explicit TreeScorer(std::shared_ptr<const TreeEnsemble> model);

  /// What raw_scores() gives, to the last bit. threads 0: all. Safe to call from several threads.
  [[nodiscard]] std::vector<double> operator()(std::span<const double> rows, int threads = 0) const;

 private:
  struct Node {
    double threshold;
    uint32_t column;  // of the widened row; kNanLeft, kCategory
    uint32_t left;    // its right child is the next one; of a leaf: itself
  };
  struct Packed {
    uint32_t first = 0;  // of nodes_
    int depth = 0;
    bool categories = false;
  };

  void pack(const Tree& tree);
  void widen(std::span<const double> row, double* wide) const;
  void score_block(std::span<const double> rows, std::span<double> scores, std::vector<double>& wide) const;
  template <bool kCategories>
  void descend(const Packed& tree, size_t index, const double* wide, uint32_t* at) const;

  std::shared_ptr<const TreeEnsemble> model_;
  size_t features_, block_rows_;
  std::vector<Node> nodes_;
  std::vector<double> values_;          // [nodes]
  std::vector<int32_t> categories_;     // [nodes]: the tree's set
  std::vector<uint8_t> others_left_;    // [nodes]
  std::vector<Packed> trees_;
};

}  // namespace deepseek::explain
