// Activations of gated layers and their slopes. Private to this folder.
#pragma once

#include "kernels/simd.h"

namespace deepseek::kernels {

// GELU by tanh is x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): both activations are x * sigmoid(s(x)).
struct Gate {
  float value, slope;
};
inline Gate silu_at(float x) {
  const float sigmoid = 1.0f / (1.0f + fast_exp(-x));
  return {x * sigmoid, sigmoid * (1.0f + x * (1.0f - sigmoid))};
}
inline Gate gelu_at(float x) {
  const float s = 1.59576912f * (x + 0.044715f * x * x * x);
  const float sigmoid = 1.0f / (1.0f + fast_exp(-s));
  const float ds = 1.59576912f * (1.0f + 0.134145f * x * x);
  return {x * sigmoid, sigmoid + x * sigmoid * (1.0f - sigmoid) * ds};
}

}  // namespace deepseek::kernels
