// Which scores of a row are kept, found by counting passes that the compiler turns into vectors.
#pragma once

#include <cstdint>
#include <limits>

namespace deepseek::kernels {

/// x[i] is kept where it is above `threshold`, or equal to it and i < equal_before.
struct KeptScores {
  float threshold = -std::numeric_limits<float>::infinity();
  int64_t equal_before = 0;
};

struct RowFacts {
  float smallest = 0, largest = 0;  ///< of a row with NaN: of the others
  float mean = 0, deviation = 0;    ///< estimates where a search begins; they may be infinite or NaN
  bool has_nan = false;
};
[[nodiscard]] RowFacts facts_of(const float* x, int64_t n);

/// z with P(Z > z) = p for a standard normal Z, to 5e-4. Source: Abramowitz and Stegun, 26.2.23.
[[nodiscard]] double normal_quantile(double p);

/// The `count` largest of x [n], equal ones from the lower index on; 1 <= count <= n. No NaN, nothing +infinite.
[[nodiscard]] KeptScores largest_scores(const float* x, int64_t n, int64_t count, const RowFacts& facts);

/// The fewest of the largest whose weights [n], exponentials() of scale, reach `mass`, and no fewer than `least`. Sums are in f32.
[[nodiscard]] KeptScores scores_of_mass(const float* x, const float* weights, int64_t n, int64_t least, float mass, const RowFacts& facts, float scale);

[[nodiscard]] int64_t kept_count(const float* x, int64_t n, const KeptScores& kept);
/// Sum of the weights [n] of the kept.
[[nodiscard]] float kept_mass(const float* x, const float* weights, int64_t n, const KeptScores& kept);

}  // namespace deepseek::kernels
