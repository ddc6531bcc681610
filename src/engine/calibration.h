// What the products of a model meet: tokens to read, and the second moments of every product's inputs.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <vector>

#include "engine/fused_model.h"

namespace deepseek::engine {

using TokenSequences = std::vector<std::vector<int32_t>>;

/// Texts that the model writes itself from its first token on, drawn from its own distribution: `count` sequences of `length` tokens.
/// The same seed gives the same texts. Source of the idea: Liu et al., "LLM-QAT", 2023 (data-free).
[[nodiscard]] base::Result<TokenSequences> own_texts(FusedModel& model, int32_t first, const std::vector<int32_t>& never, int64_t count, int64_t length,
                                                     uint64_t seed, const std::function<bool(int64_t done, int64_t total)>& progress);

/// Sums of x x^T over all tokens of the texts, x the input of a product. Layers are gone through in order: as many at once as fit into
/// `budget` bytes, then the model reads the texts again.
class Calibration {
 public:
  Calibration(FusedModel& model, const TokenSequences& texts, uint64_t budget) : model_(model), texts_(texts), budget_(budget) {}
  /// [columns, columns] f32; num_layers for the head. Errors: interrupted, inputs that are not finite.
  [[nodiscard]] base::Result<at::Tensor> moments(int64_t layer, FusedModel::Input input);
  std::function<bool()> stop_requested;

 private:
  using Site = std::pair<int64_t, FusedModel::Input>;
  [[nodiscard]] int64_t width(FusedModel::Input input) const;
  base::Status collect(int64_t first);
  base::Status read(std::span<const int32_t> tokens);
  FusedModel& model_;
  const TokenSequences& texts_;
  uint64_t budget_;
  std::map<Site, at::Tensor> moments_;
};

}  // namespace deepseek::engine
