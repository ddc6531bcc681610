// Values and interactions of games too large to enumerate, on a tree of features, from as few coalitions as possible, each with an interval.
//
// Coalitions are asked in pairs with their complement: a Winter or Shapley value depends on u(S) = (v(S) - v(complement of S)) / 2 alone, the interaction of a
// pair on the other half. What is known of u is spread to the coalitions that were not asked by Gaussian-process regression: a priori the coefficient of a set
// A of players in the Walsh expansion has a variance in proportion to prod_{i in A} a_i, which makes the covariance of two coalitions exp(-sum of l_i over the
// players in which they differ), made odd (or even); a_i = tanh(l_i / 2) says how far player i interacts, and follows from the answers by maximum likelihood. A
// part without any order takes what such a game cannot explain. Under this law the values are Gaussian too: their means are the estimate, their deviations
// the intervals. Sums are exact: of a node's children, and of everything. With every coalition asked so are the values.
//
// A large tree is opened where it matters: groups whose value is negligible keep their members closed, the others get the coalitions.
#pragma once

#include <cstdint>
#include <vector>

#include "explain/feature_tree.h"
#include "explain/game.h"
#include "explain/interaction.h"

namespace deepseek::explain {

struct EstimateOptions {
  int64_t budget = 0;       ///< coalitions that may be asked; 0: 2 * players + 2048
  double precision = 0;     ///< stops where every interval reaches no further than this from its value; 0: the whole budget is used
  double confidence = 0.95;
  double negligible = 0.01;  ///< a group stays closed below this share of the sum of all |values|; only where the budget is short of eight coalitions a feature
  int64_t pairs = 0;         ///< strongest interactions that are wanted
  InteractionIndex index = InteractionIndex::kShapley;
  uint64_t seed = 0;
};

struct PairEstimate {
  int32_t first = 0, second = 0;  ///< nodes
  double value = 0, half_width = 0;
};

/// The `most` pairs of largest |value|, strongest first.
void keep_strongest(std::vector<PairEstimate>& pairs, int64_t most);

struct Estimate {
  std::vector<double> values;      ///< of each node; a group's is the sum of its children's
  std::vector<double> half_width;  ///< of the intervals; 0 where exact
  std::vector<uint8_t> open;       ///< 0: the nodes below have no values
  std::vector<PairEstimate> pairs;  ///< between features and between siblings, strongest first
  double base = 0, total = 0;      ///< worth of nobody and of all; the values of the features add up to total - base
  int64_t asked = 0;               ///< coalitions
  bool exact = false;
  bool precise = true;             ///< the asked precision was reached
};

/// The game's players are the tree's features. Enumerates where the budget allows it. Refuses a budget below 4 or an odd confidence; errors of the game.
[[nodiscard]] base::Result<Estimate> estimate_winter(Game& game, const FeatureTree& tree, const EstimateOptions& options = {});
/// Every player alone below the root: values and half_width are those of the players, [players]; a pair's nodes are its players.
[[nodiscard]] base::Result<Estimate> estimate_shapley(Game& game, const EstimateOptions& options = {});

}  // namespace deepseek::explain
