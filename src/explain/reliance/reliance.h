// Where a model leans on a feature more than it should: shares of what moves its scores, against what was expected of them.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/result.h"
#include "explain/explainer.h"
#include "explain/feature_tree.h"

namespace deepseek::explain {

/// Largest shares that are expected, by the name of a feature or group: `{"occupation": 0.02, "money": 0.3}` in JSON, or YAML where the build has yaml-cpp:
///
///     occupation: 0.02
///     money: 0.3
///
/// Errors name the file: what read_groups() refuses, no names, what is no number from 0 to 1.
[[nodiscard]] base::Result<std::map<std::string, double>> read_expectation(const base::fs::path& path);

struct RelianceOptions {
  std::map<std::string, double> expected;        ///< by read_expectation(); names of nodes of the tree
  const GlobalExplanation* reference = nullptr;  ///< another model's, on the same tree; it is what is expected of every node that `expected` does not name
  double confidence = 0.95;                      ///< that no flag is false, of all nodes together (Bonferroni)
  double least_excess = 0.03;                    ///< over a reference; models of other seeds on the same rows differ by about as much
};

/// The part of one feature or group in what moves the scores: mean |value| over the sum of the mean |value| of all features. Values of a group's features that
/// work against each other leave the group less than the sum of theirs.
struct NodeReliance {
  int32_t node = 0;
  double share = 0, half_width = 0;
  std::optional<double> expected;   ///< absent: nothing is expected of this node
  double expected_half_width = 0;   ///< of a reference's share
  double excess = 0, excess_half_width = 0;  ///< share - expected
  bool flagged = false;             ///< the interval of the excess lies above 0 (above least_excess, of a reference)
};

struct Reliance {
  std::vector<NodeReliance> nodes;  ///< every node but the root: flagged ones first, then those of which something is expected, then the others; each by excess or share, largest first
  bool exact_rows = true;           ///< false: some rows left groups closed, whose features count as 0 there
};

/// The intervals are over the rows that were explained, and of the values where those are estimates. Two explanations of the same rows move together, which makes the
/// interval of an excess over a reference rather too wide. Refuses names that the tree does not have, explanations of fewer than two rows or of another tree, an odd confidence.
[[nodiscard]] base::Result<Reliance> find_reliance(const GlobalExplanation& global, const FeatureTree& tree, const RelianceOptions& options = {});

/// [{"name", "group" (true or absent), "share", "half_width", "expected", "excess", "excess_half_width", "flagged"}, ...] in the order of `nodes`; what is not there is absent.
[[nodiscard]] nlohmann::ordered_json reliance_json(const Reliance& reliance, const FeatureTree& tree);

}  // namespace deepseek::explain
