// Shapley values of games too large to enumerate, from as few coalitions as possible, each with an interval.
//
// Coalitions are asked in pairs with their complement: a Shapley value depends on u(S) = (v(S) - v(complement of S)) / 2 alone. What is known of u is
// spread to the coalitions that were not asked by Gaussian-process regression: a priori the coefficient of a set A of players in the Walsh expansion has
// a variance in proportion to prod_{i in A} a_i, which makes the covariance of two coalitions exp(-sum of l_i over the players in which they differ), made
// odd; a_i = tanh(l_i / 2) says how far player i interacts, and follows from the answers by maximum likelihood. A part without any order takes what
// such a game cannot explain. Under this law the Shapley values are Gaussian too: their means are the estimate, their deviations the intervals. The sum
// of the values is exact, and with every coalition asked so are they.
#pragma once

#include <cstdint>
#include <vector>

#include "explain/game.h"

namespace deepseek::explain {

struct EstimateOptions {
  int64_t budget = 0;       ///< coalitions that may be asked; 0: 2 * players + 2048
  double precision = 0;     ///< stops where every interval reaches no further than this from its value; 0: the whole budget is used
  double confidence = 0.95;
  uint64_t seed = 0;
};

struct Estimate {
  std::vector<double> values;      ///< [players]
  std::vector<double> half_width;  ///< [players], of the intervals; 0 where exact
  double base = 0, total = 0;      ///< worth of nobody and of all; the values add up to total - base
  int64_t asked = 0;               ///< coalitions
  bool exact = false;
  bool precise = true;             ///< the asked precision was reached
};

/// Enumerates where the budget allows it. Refuses a budget below 4 or an odd confidence; errors of the game.
[[nodiscard]] base::Result<Estimate> estimate_shapley(Game& game, const EstimateOptions& options = {});

}  // namespace deepseek::explain
