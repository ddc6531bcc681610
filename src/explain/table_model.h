// A model of rows as the explainers see it, whatever stands behind it: a file, a program, a server.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "explain/tree_ensemble.h"

namespace deepseek::explain {

/// What a feature's numbers mean.
struct FeatureText {
  std::string name;
  std::vector<std::string> categories;  ///< code -> text; empty: a number
};

/// Rows are [count, features] f64: a number, or the code of a category; NaN is missing.
struct TableModel {
  /// Scores [count, outputs] of rows.
  using Score = std::function<base::Result<std::vector<double>>(std::span<const double> rows)>;
  /// Gradients [count, features] of one output's score by the features.
  using Gradient = std::function<base::Result<std::vector<double>>(std::span<const double> rows, int64_t output)>;

  std::string kind;                   ///< for people: "XGBoost", "LightGBM", "ONNX", "TorchScript", "command", "HTTP", "linear", "net"
  std::vector<FeatureText> features;  ///< empty: the model takes the columns of the data as they come
  std::vector<std::string> outputs;   ///< names, one at least; a classifier's classes
  std::string target;                 ///< the column that it foretells, "" where unknown; it is no feature
  /// What the scores are, and what makes them a prediction.
  TreeEnsemble::Link link = TreeEnsemble::Link::kIdentity;
  Score score;
  Gradient gradient;                          ///< empty: not differentiable
  std::shared_ptr<const TreeEnsemble> trees;  ///< of a tree ensemble: score gives its raw scores
  std::vector<double> weights, offset;        ///< of a linear model: weights [outputs, features], offset [outputs]
};

/// Scores [count] of one output of rows [count, features]. Fails where the model does, and where it gives another number of scores.
[[nodiscard]] base::Result<std::vector<double>> scores_of(const TableModel& model, std::span<const double> rows, int64_t features, int64_t output);

[[nodiscard]] std::vector<std::string> names_of(std::span<const FeatureText> features);
/// [features]: 1 where a feature has categories.
[[nodiscard]] std::vector<uint8_t> category_flags(std::span<const FeatureText> features);
/// Those of rows [count, features], in the order of `which`.
[[nodiscard]] std::vector<double> rows_at(std::span<const double> rows, int64_t features, std::span<const int64_t> which);
/// exp(scores[output]) over the sum of all.
[[nodiscard]] double softmax_of(std::span<const double> scores, size_t output);

}  // namespace deepseek::explain
