// Values and interactions of small games from all 2^n coalitions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "explain/feature_tree.h"
#include "explain/game.h"
#include "explain/interaction.h"

namespace deepseek::explain {

constexpr int kMostExactPlayers = 20;  // a million coalitions

/// The worth of every coalition, [2^players]: bit i of the index says whether player i takes part. Refuses more than kMostExactPlayers.
[[nodiscard]] base::Result<std::vector<double>> worth_table(Game& game);

/// size! (n - size - 1)! / n!: the weight of a coalition of `size` that a player joins.
[[nodiscard]] double shapley_weight(int64_t size, int64_t n);

/// Of `others` players the probability that just a given `taking` of them take part, each with the probability t (interaction.h).
[[nodiscard]] double chance_of(int64_t taking, int64_t others, InteractionIndex index);

/// Shapley values [n] of a table [2^n].
[[nodiscard]] std::vector<double> shapley_values(std::span<const double> table);
/// Shapley interaction index of each pair, [n, n] symmetric, 0 on the diagonal. Source: Grabisch and Roubens 1999.
[[nodiscard]] std::vector<double> shapley_interactions(std::span<const double> table);

/// Single values [n] and pairs [n, n] (symmetric, 0 on the diagonal) whose sum, each pair once, is the worth of all players less that of none.
struct PairwiseValues {
  std::vector<double> single, pairs;
};
/// k-SII of order 2 (Lundberg et al. 2020, Bord and von Luxburg 2023): pairs are the interaction index, half of each is taken from its players.
[[nodiscard]] PairwiseValues k_sii(std::span<const double> table);
/// Faith-SHAP of order 2: the best fit of the game in the Shapley kernel's weights. Source: Tsai, Yeh, Ravikumar 2023, theorem 19.
[[nodiscard]] PairwiseValues faith_shap(std::span<const double> table);

/// Winter values (Winter 1989; for two levels Owen 1977) of every node of the tree: a group plays among its siblings as one, then its children share what it
/// gets. A node's value is the sum of its children's; on a flat tree the leaves have Shapley values.
[[nodiscard]] std::vector<double> winter_values(std::span<const double> table, const FeatureTree& tree);
/// Interaction of two nodes on the tree, neither below the other: as the values, with both left out where their ways part. Of two groups it is the sum over
/// the pairs of their children; on a flat tree it is the index itself.
[[nodiscard]] double winter_interaction(std::span<const double> table, const FeatureTree& tree, int32_t first, int32_t second, InteractionIndex index);

}  // namespace deepseek::explain
