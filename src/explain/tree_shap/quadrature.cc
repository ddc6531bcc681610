#include "explain/tree_shap/quadrature.h"

#include <array>
#include <cmath>
#include <numbers>

namespace deepseek::explain {
namespace {

// Roots of the Legendre polynomial by Newton's method from Tricomi's estimate; source: Abramowitz and Stegun, 25.4.29 and 22.16.6.
Quadrature computed(int count) {
  Quadrature q{.count = count};
  for (int i = 0; i < count; ++i) {
    double x = std::cos(std::numbers::pi * (i + 0.75) / (count + 0.5)), slope = 1;
    for (int step = 0; step < 20; ++step) {
      double last = 1, value = x;
      for (int k = 2; k <= count; ++k) {
        const double next = ((2 * k - 1) * x * value - (k - 1) * last) / k;
        last = value;
        value = next;
      }
      slope = count * (x * value - last) / (x * x - 1);
      const double change = value / slope;
      x -= change;
      if (std::abs(change) < 1e-16) break;
    }
    q.at[i] = (1 - x) / 2;
    q.weight[i] = 1 / ((1 - x * x) * slope * slope);
  }
  return q;
}

}  // namespace

const Quadrature& quadrature(int count) {
  static const auto table = [] {
    std::array<Quadrature, kMostPathFeatures / 2> all;
    for (int n = 1; n <= kMostPathFeatures / 2; ++n) all[static_cast<size_t>(n - 1)] = computed(n);
    return all;
  }();
  return table[static_cast<size_t>(count - 1)];
}

}  // namespace deepseek::explain
