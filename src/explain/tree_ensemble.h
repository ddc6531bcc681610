// Decision tree ensembles as the explainers see them: what XGBoost, LightGBM and this project's own boosting have in common.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "base/result.h"

namespace deepseek::explain {

/// A split or a leaf. A split sends x[feature] <= threshold, or a category of its set, to the left.
struct TreeNode {
  /// What counts as missing and then follows `default_left`: NaN; NaN and zero; nothing (NaN is read as 0).
  enum class Missing : uint8_t { kNan, kZero, kNone };

  int32_t feature = -1;  ///< -1: a leaf
  int32_t left = -1, right = -1;
  int32_t categories = -1;  ///< index into Tree::category_sets; -1: a threshold
  double threshold = 0;
  double value = 0;  ///< of a leaf
  double cover = 0;  ///< training rows, or their weight, that came through
  Missing missing = Missing::kNan;
  bool default_left = false;
  bool others_left = false;  ///< categories beyond the set, and negative ones
};

struct Tree {
  std::vector<TreeNode> nodes;  ///< nodes[0] is the root
  std::vector<std::vector<uint32_t>> category_sets;  ///< bits of the categories that go left
  int32_t output = 0;
};

/// Adds the leaves of all trees onto `base` for each output: the model's raw score (log-odds of a classifier).
struct TreeEnsemble {
  /// What makes a raw score of an output a prediction.
  enum class Link : uint8_t { kIdentity, kLogistic, kSoftmax, kExponential };

  std::string kind;  ///< "XGBoost" or "LightGBM"
  std::vector<std::string> features;
  std::vector<Tree> trees;
  std::vector<double> base;  ///< one for each output
  Link link = Link::kIdentity;
  bool float_inputs = false;  ///< rows are rounded to f32 before they meet a threshold

  [[nodiscard]] int64_t feature_count() const { return static_cast<int64_t>(features.size()); }
  [[nodiscard]] int64_t outputs() const { return static_cast<int64_t>(base.size()); }
};

constexpr int kMostPathFeatures = 64;  ///< different features from the root to a leaf

/// Whether x goes left. Where the ensemble has float_inputs, x is rounded already.
[[nodiscard]] bool goes_left(const Tree& tree, const TreeNode& node, double x);

/// Raw scores [rows, outputs] of rows [rows, features]; NaN is missing.
[[nodiscard]] std::vector<double> raw_scores(const TreeEnsemble& model, std::span<const double> rows);

/// Refuses what an explainer could not walk: no trees, children that do not come after their parent or have two, features beyond the names, values, covers or
/// a base that are not finite, a path of more than 64 different features.
[[nodiscard]] base::Status check_ensemble(const TreeEnsemble& model);

/// A model file: XGBoost's JSON or UBJSON (gbtree, dart), or LightGBM's text. Errors name the file and what is missing.
[[nodiscard]] base::Result<TreeEnsemble> read_tree_ensemble(const base::fs::path& path);
/// The same from memory; errors name no file.
[[nodiscard]] base::Result<TreeEnsemble> parse_tree_ensemble(std::string_view content);

}  // namespace deepseek::explain
