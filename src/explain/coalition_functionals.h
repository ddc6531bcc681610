// What Winter values and interactions on a tree of players are of a game under the law of coalition_process.h: linear functionals of it.
//
// A node's value is the mean of v(S + node) - v(S), where at each level from the root down to the node its siblings are in S, whole, with probability t,
// and t is uniform in [0, 1], anew at each level (Owen 1972 for one level). With a covariance of coalitions that is a product over players, its covariance with a
// coalition is a product over levels of integrals of products over siblings. The same holds for a pair of nodes; where the branches that hold
// them part, both are left out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "explain/feature_tree.h"
#include "explain/interaction.h"
#include "explain/positive_matrix.h"

namespace deepseek::explain {

class CoalitionFunctionals {
 public:
  /// tree: its leaves' features are the players; signs [players, count] of -1 and 1; lengths [players].
  CoalitionFunctionals(const FeatureTree& tree, const Matrix& signs, std::span<const double> lengths);

  /// Covariance with the coalitions, [count], where two coalitions have exp(-sum of lengths where they differ), and the coefficient of each pair of a
  /// coalition and its complement, of which the odd (for a node) or even (for a pair) part counts.
  struct Weights {
    std::vector<double> cross, own;
  };
  [[nodiscard]] Weights of(int32_t node) const;
  [[nodiscard]] Weights of(int32_t first, int32_t second, InteractionIndex index) const;

  /// Variance of the value under that covariance, and the sum of the squares of all pairs' coefficients.
  struct Variances {
    double smooth = 0, own = 0;
  };
  [[nodiscard]] Variances variance_of(int32_t node) const;
  [[nodiscard]] Variances variance_of(int32_t first, int32_t second, InteractionIndex index) const;

 private:
  struct Node {
    std::vector<double> near, far;      // the covariance with "all in" and "all out", [count rounded up to vectors]
    std::vector<int8_t> whole;          // 1 all in, -1 all out, 0 broken
    double length = 0;                  // sum over its players
    std::vector<double> among, chance;  // of its siblings: the integral, and the probability of their part of the coalition
    Variances variance;                 // of its siblings
    Matrix products;                    // of its children, [nodes of the quadrature, count]
    std::vector<double> agreed;         // of its children, over two draws, [pairs of nodes of the quadrature]
    std::vector<int32_t> in, broken;    // children that are all in, and broken, [count]
  };
  void join_children(size_t parent);
  void fill_children(size_t parent);
  [[nodiscard]] const Node& at(int32_t node) const { return nodes_[static_cast<size_t>(node)]; }
  [[nodiscard]] std::vector<double> difference(int32_t node) const;
  // Chance that just those of the children, less `without`, which are all in take part; 0 where one is broken.
  [[nodiscard]] std::vector<double> chances(int32_t parent, std::span<const int32_t> without, InteractionIndex index) const;
  [[nodiscard]] double agreement_of(int32_t parent, std::span<const int32_t> without, InteractionIndex index) const;

  const FeatureTree& tree_;
  size_t count_, room_;
  std::vector<Node> nodes_;
};

}  // namespace deepseek::explain
