// What Winter values and interactions on a tree of players are of a game under the law of coalition_process.h: linear functionals of it.
//
// A node's value is the mean of v(S + node) - v(S), where at each level from the root down to the node its siblings are in S, whole, with probability t,
// and t is uniform in [0, 1], anew at each level (Owen 1972 for one level). With a covariance of coalitions that is a product over players, its covariance with a
// coalition is a product over levels of integrals of products over siblings. The same holds for a pair of nodes; where the branches that hold
// them part, both are left out.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "explain/feature_tree.h"
#include "explain/interaction.h"

namespace deepseek::explain {

class CoalitionFunctionals {
 public:
  /// tree: its leaves' features are the players; signs [count, players] of -1 and 1; lengths [players].
  CoalitionFunctionals(const FeatureTree& tree, const at::Tensor& signs, std::span<const double> lengths);

  /// Covariance with the coalitions, [count], where two coalitions have exp(-sum of lengths where they differ), and the coefficient of each pair of a
  /// coalition and its complement, of which the odd (for a node) or even (for a pair) part counts.
  struct Weights {
    at::Tensor cross, own;
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
  struct Level;  // what the children of a node, less some, are to a pair
  struct Node {
    at::Tensor near, far;      // logarithms of the covariance with "all in" and "all out", [count]
    at::Tensor whole;          // 1 all in, -1 all out, 0 broken, [count]
    double length = 0;         // sum over its players
    at::Tensor among, chance;  // of its siblings: the integral, and the probability of their part of the coalition, [count]
    Variances variance;        // of its siblings
  };
  [[nodiscard]] Level level(int32_t parent, std::vector<int32_t> without, InteractionIndex index) const;
  void fill_children(int32_t parent);
  [[nodiscard]] at::Tensor difference(int32_t node) const;

  const FeatureTree& tree_;
  std::vector<Node> nodes_;
};

}  // namespace deepseek::explain
