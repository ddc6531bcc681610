// Shapley values and interactions of tree ensembles, exact, for many rows at once.
//
// A leaf is a product over the features of its path: v(S) = value * prod_{i in S} o_i * prod_{i not in S} z_i, where o_i says whether the row follows the
// path at feature i, and z_i what stands for it when the feature is unknown. The Shapley value of such a game is an integral of a polynomial,
//   phi_i = value * (o_i - z_i) * integral_0^1 prod_{j != i} (z_j + t (o_j - z_j)) dt      (Owen's multilinear extension, 1972),
// which Gauss-Legendre quadrature with half as many nodes as the path has features gives exactly; the same with two features left out is their
// interaction index. Every node costs one product, all its terms are positive, and rows run side by side in vector registers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "explain/feature_tree.h"
#include "explain/interaction.h"
#include "explain/tree_ensemble.h"

namespace deepseek::explain {

/// An attribution of rows: values [rows, outputs, features], base [outputs]; base + the sum over the features is the raw score.
struct TreeAttribution {
  std::vector<double> values;
  std::vector<double> base;
};

/// Unknown features follow the training rows' shares at each split (cover): the "tree path dependent" game of Lundberg et al. 2020.
/// rows: [rows, features], NaN is missing. threads 0: all. A row's values depend on neither the other rows nor the threads.
[[nodiscard]] TreeAttribution tree_shap(const TreeEnsemble& model, std::span<const double> rows, int threads = 0);

/// Unknown features take a background row's values, averaged over the rows of `background` [count, features]: the interventional game.
[[nodiscard]] TreeAttribution interventional_tree_shap(const TreeEnsemble& model, std::span<const double> rows, std::span<const double> background, int threads = 0);

/// [rows, outputs, features, features], symmetric: half of the Shapley interaction index off the diagonal, the rest of the feature's value on it.
[[nodiscard]] std::vector<double> tree_shap_interactions(const TreeEnsemble& model, std::span<const double> rows, int threads = 0);

/// What stands for unknown features in tree_winter: the shares of training rows at each split, or the rows of a background.
struct TreeWorth {
  std::span<const double> background;  ///< [count, features]; empty: path dependent
  int threads = 0;
};

/// Winter values (exact.h) on a tree of the model's features: values [rows, outputs, nodes of the tree]. On a flat tree they are the values above.
[[nodiscard]] TreeAttribution tree_winter(const TreeEnsemble& model, const FeatureTree& features, std::span<const double> rows, const TreeWorth& worth = {});

/// Interactions of every two features on the tree (winter_interaction of exact.h) of one output: [rows, features, features], symmetric, 0 on the diagonal.
[[nodiscard]] std::vector<double> tree_winter_interactions(const TreeEnsemble& model, const FeatureTree& features, std::span<const double> rows, int64_t output, InteractionIndex index,
                                                           const TreeWorth& worth = {});

/// The same two over a background, which is not empty.
[[nodiscard]] TreeAttribution background_winter(const TreeEnsemble& model, const FeatureTree& features, std::span<const double> rows, std::span<const double> background, int threads = 0);
[[nodiscard]] std::vector<double> background_winter_interactions(const TreeEnsemble& model, const FeatureTree& features, std::span<const double> rows, int64_t output,
                                                                 InteractionIndex index, std::span<const double> background, int threads = 0);

}  // namespace deepseek::explain
