// A linear layer with a frozen weight and, on top, a low-rank adapter that is trained.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

namespace deepseek::nn {

/// y += scale * (dropout(x) A^T) B^T; with a magnitude, DoRA: the column norms of W + scale * B A become `magnitude`.
/// Sources: Hu et al. 2021 (LoRA), Kalajdzievski 2023 (rsLoRA: scale = alpha / sqrt(r)), Liu et al. 2024 (DoRA).
struct Lora {
  at::Tensor a;          ///< [r, in] f32
  at::Tensor b;          ///< [out, r] f32
  at::Tensor magnitude;  ///< [out] f32; undefined without DoRA
  double scale = 1.0;
  double dropout = 0.0;  ///< applied to x while training
  uint64_t dropout_seed = 0;  ///< mask of this step; 0: no dropout (evaluation)
};

struct Linear {
  std::string name;      ///< the module's path as Transformers has it: "model.layers.0.self_attn.q_proj"
  at::Tensor weight;     ///< [out, in] f32 or bf16, frozen
  at::Tensor bias;       ///< [out] or undefined
  std::optional<Lora> lora;

  /// x: [T, in], type of weight -> [T, out].
  [[nodiscard]] at::Tensor forward(const at::Tensor& x) const;
  /// W + scale * B A (DoRA: rows rescaled), in f32.
  [[nodiscard]] at::Tensor merged_weight() const;
  /// Replaces the weight by merged_weight() in its own type and drops the adapter.
  void merge();
};

}  // namespace deepseek::nn
