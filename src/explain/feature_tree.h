// The tree of features that an explanation hangs on: leaves are features, inner nodes are groups of them.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace deepseek::explain {

struct FeatureNode {
  std::string name;
  int32_t parent = -1;
  int32_t feature = -1;           ///< of a leaf; -1: a group
  std::vector<int32_t> children;  ///< of a group, at least one
};

/// nodes[0] is the root; a child comes after its parent. Every feature is the leaf of exactly one node.
struct FeatureTree {
  std::vector<FeatureNode> nodes;

  /// Features below each node, in rising order.
  [[nodiscard]] std::vector<std::vector<int32_t>> features_below() const;
  [[nodiscard]] int64_t feature_count() const;
  /// [features]: the node of each.
  [[nodiscard]] std::vector<int32_t> leaves() const;
  /// No groups: every feature is a child of the root.
  [[nodiscard]] bool is_flat() const;
  /// [features]: the nodes from the root down to each.
  [[nodiscard]] std::vector<std::vector<int32_t>> chains() const;
  /// Adds what each node has to its parent, [nodes].
  void add_up(std::span<double> of_nodes) const;
  /// A new last child of a node; -1: the root. Returns its index.
  int32_t add(const std::string& name, int32_t parent, int32_t feature);
};

/// Where the ways from the root to two nodes part: the last node that they share, and the child of it on either way.
struct Fork {
  int32_t node = 0, first = 0, second = 0;
  std::vector<int32_t> ways;  ///< nodes whose siblings matter to the two as to a single node: below the children on either way, and above the fork
};
/// Neither node may lie below the other.
[[nodiscard]] Fork fork_of(const FeatureTree& tree, int32_t first, int32_t second);

/// Every feature a child of the root.
[[nodiscard]] FeatureTree flat_tree(std::span<const std::string> features);

/// From groups: `{"vitals": ["age", {"pressure": ["systolic", "diastolic"]}], "blood": {"red": ["iron"], "white": ["count"]}}`. A list holds features and objects of
/// groups, an object names groups. Features that no group names become children of the root. Refuses a feature that is unknown or named twice, a group
/// without features, and a name that is a group and a feature.
[[nodiscard]] base::Result<FeatureTree> tree_of_groups(const nlohmann::ordered_json& groups, std::span<const std::string> features);

/// Average-linkage clustering of `distance` [features, features], symmetric: joins lie at the height where they happen, and joins higher than
/// `highest` are left to the root. Groups are named after their most central feature.
[[nodiscard]] FeatureTree clustered_tree(std::span<const double> distance, std::span<const std::string> features, double highest);

/// tree_of_groups(), where the features that no group names are clustered below the root as clustered_tree() does it, and so are the direct features of a group with
/// more than `refine_above` of them (0: of none). Named groups come before clusters.
[[nodiscard]] base::Result<FeatureTree> hybrid_tree(const nlohmann::ordered_json& groups, std::span<const double> distance, std::span<const std::string> features,
                                                    double highest, size_t refine_above = 0);

}  // namespace deepseek::explain
