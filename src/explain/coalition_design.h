// Which coalitions to ask: pairs with their complement, where the values on a tree of players look for them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/random.h"
#include "explain/feature_tree.h"

namespace deepseek::explain {

/// Coalitions of which no two are equal or complements, each from a node of the tree: its children take part by the Shapley kernel (Lundberg and Lee 2017),
/// the siblings of its ancestors each as one, with a probability that is uniform anew at each level. For pairs every other coalition takes a part of one of these
/// siblings as well, where interactions of features in different groups are seen.
class CoalitionDesign {
 public:
  CoalitionDesign(int64_t players, uint64_t seed, bool for_pairs);

  /// Up to `pairs` coalitions in all. tree: its leaves are features or groups that are not opened yet (`feature` is then any); members[node]: the players below
  /// it; weight[node]: how much of the coalitions a node with children gets.
  void extend(int64_t pairs, const FeatureTree& tree, const std::vector<std::vector<int32_t>>& members, std::span<const double> weight);

  /// The first holds all players; [count, players].
  [[nodiscard]] const std::vector<uint8_t>& coalitions() const { return coalitions_; }
  [[nodiscard]] int64_t count() const { return static_cast<int64_t>(coalitions_.size()) / players_; }

 private:
  struct Place;
  size_t below(size_t n) { return static_cast<size_t>(draw_.uniform() * static_cast<double>(n)); }
  void singles(const FeatureTree& tree, const std::vector<std::vector<int32_t>>& members);
  void add(std::string row);
  void take_some(const FeatureTree& tree, const std::vector<std::vector<int32_t>>& members, int32_t node, std::string& row);
  void take_siblings(const FeatureTree& tree, const std::vector<std::vector<int32_t>>& members, int32_t node, std::string& row);

  int64_t players_;
  base::SplitMix64 draw_;
  bool for_pairs_;
  std::vector<uint8_t> coalitions_;
  std::unordered_set<std::string> seen_;
};

}  // namespace deepseek::explain
