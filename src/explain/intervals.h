// Quantiles that intervals are made of.
#pragma once

namespace deepseek::explain {

/// z with P(|Z| <= z) = confidence, for a standard normal Z; 0 < confidence < 1.
[[nodiscard]] double two_sided(double confidence);

/// Student's quantile at `freedom` degrees of freedom from the normal one; source: Abramowitz and Stegun, 26.7.5. Within 0.2% from 5 degrees on, for a
/// confidence of 95%.
[[nodiscard]] double student(double z, double freedom);

}  // namespace deepseek::explain
