// The Gaussian process of estimate.h: from a game on some coalitions to Winter values and interactions on a tree of its players.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "explain/feature_tree.h"
#include "explain/interaction.h"

namespace deepseek::explain {

struct CoalitionPosterior {
  std::vector<double> mean, deviation;  ///< [nodes of the tree]; a node's mean is the sum of its children's
};

/// Degrees of freedom behind the deviations of so many coalitions.
[[nodiscard]] double degrees_of_freedom(size_t coalitions, int64_t players);

/// tree: its leaves' features are the players. coalitions [count, players] of 0 and 1, the first with all players, no two equal or complements; odd [count]:
/// u(S) = (v(S) - v(complement)) / 2.
/// More than kMostPoints coalitions are treated in parts of that size, which bounds the memory, and the parts' results averaged.
[[nodiscard]] CoalitionPosterior coalition_posterior(std::span<const uint8_t> coalitions, const FeatureTree& tree, std::span<const double> odd);

struct PairPosterior {
  int32_t first = 0, second = 0;  ///< nodes
  double mean = 0, deviation = 0;
};
/// The same for pairs, from the other half of the game, even [count]: (v(S) + v(complement)) / 2. Of all pairs of siblings, and of features those that interact
/// with others at all, kMostInteracting of them, the `wanted` strongest, strongest first.
[[nodiscard]] std::vector<PairPosterior> strongest_interactions(std::span<const uint8_t> coalitions, const FeatureTree& tree, std::span<const double> even, int64_t wanted,
                                                                InteractionIndex index);
constexpr size_t kMostInteracting = 48;

constexpr int64_t kMostPoints = 4096;    // a matrix of 128 MiB

}  // namespace deepseek::explain
