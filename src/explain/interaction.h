// Which index measures how two features act together.
#pragma once

#include <cstdint>

namespace deepseek::explain {

/// kShapley: SII (Grabisch and Roubens 1999), whose pairs k-SII takes over. kFaith: Faith-SHAP of order 2 (Tsai, Yeh, Ravikumar 2023). Both are means of
/// v(S+ij) - v(S+i) - v(S+j) + v(S) in which others take part with probability t: t is uniform, or has the density 6 t (1 - t).
/// With either, half of each pair taken from both of its players leaves values whose sum, pairs included, is the score less the base.
enum class InteractionIndex : uint8_t { kShapley, kFaith };

/// The density of t.
[[nodiscard]] inline double density(double t, InteractionIndex index) { return index == InteractionIndex::kFaith ? 6 * t * (1 - t) : 1; }

}  // namespace deepseek::explain
