// A net of two hidden layers over the columns of a table. Private to this folder.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/result.h"
#include "explain/table_model.h"

namespace deepseek::explain {

/// Rows as the net reads them.
struct NetInput {
  at::Tensor numbers;  ///< [count, 2 * numbers] f32: numbers of mean 0 and deviation 1 over the training rows, 0 where missing, then 1 where missing
  at::Tensor codes;    ///< [count, categories] i64: rows of Net::category_weight
};

/// score = mean + scale * (output silu(second silu(first numbers + sum of the codes' rows))).
struct Net {
  std::vector<int64_t> number_features, category_features;  ///< places among the features
  std::vector<int64_t> first_code;                          ///< of each categorical feature; its last code stands for missing
  std::vector<double> number_mean, number_scale;            ///< of each number
  std::vector<double> target_mean{0}, target_scale{1};      ///< of a regression
  at::Tensor number_weight, category_weight, bias, second_weight, second_bias, output_weight, output_bias;  ///< f32, weights [to, from], category_weight [codes, to]
  int64_t features = 0, outputs = 1;

  /// Without weights: the layout of these features.
  [[nodiscard]] static Net of(std::span<const FeatureText> features, int64_t outputs);

  [[nodiscard]] int64_t codes() const { return codes_; }
  /// The tensors of the net and their names in its file; absent: those without an element.
  [[nodiscard]] std::vector<std::pair<std::string, at::Tensor*>> tensors();
  [[nodiscard]] NetInput input_of(std::span<const double> rows) const;
  /// [count, outputs], before mean and scale of the target.
  [[nodiscard]] at::Tensor forward(const NetInput& input) const;
  /// As TableModel has them.
  [[nodiscard]] base::Result<std::vector<double>> score(std::span<const double> rows) const;
  [[nodiscard]] base::Result<std::vector<double>> gradient(std::span<const double> rows, int64_t output) const;
  [[nodiscard]] base::Status save(const base::fs::path& file) const;
  /// Reads the weights of this layout. Fails where a tensor is absent, has another shape or type, or numbers that are not finite.
  [[nodiscard]] base::Status load(const base::fs::path& file);

 private:
  int64_t codes_ = 0;
};

/// The frame with a net that scores.
[[nodiscard]] TableModel model_of_net(TableModel frame, Net net);

}  // namespace deepseek::explain
