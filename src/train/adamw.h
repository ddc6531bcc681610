// AdamW over the adapter's parameters. Source: Loshchilov & Hutter 2019; the arithmetic is libtorch's fused CPU kernel.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace deepseek::train {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0;
};

class AdamW {
 public:
  AdamW(std::vector<at::Tensor> parameters, AdamWOptions options);
  /// One update from the parameters' gradients; a parameter without one is left alone. Gradients are dropped afterwards.
  void step(double learning_rate);

  [[nodiscard]] const std::vector<at::Tensor>& parameters() const { return parameters_; }
  /// First and second moments, in the order of the parameters, and the count of updates: what a checkpoint must keep.
  [[nodiscard]] std::vector<at::Tensor>& first_moments() { return first_; }
  [[nodiscard]] std::vector<at::Tensor>& second_moments() { return second_; }
  [[nodiscard]] int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }

 private:
  std::vector<at::Tensor> parameters_, first_, second_;
  AdamWOptions options_;
  int64_t updates_ = 0;
};

/// Scales all gradients so that their joint L2 norm is at most `max_norm` (0: never); returns the norm before.
double clip_gradients(const std::vector<at::Tensor>& parameters, double max_norm);

}  // namespace deepseek::train
