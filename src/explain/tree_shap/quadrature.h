// Gauss-Legendre quadrature on [0, 1].
#pragma once

#include "explain/tree_ensemble.h"

namespace deepseek::explain {

/// Exact for polynomials of degree up to 2 count - 1.
struct Quadrature {
  int count = 0;
  double at[kMostPathFeatures / 2] = {}, weight[kMostPathFeatures / 2] = {};
};
/// 1 <= count <= kMostPathFeatures / 2.
[[nodiscard]] const Quadrature& quadrature(int count);

}  // namespace deepseek::explain
