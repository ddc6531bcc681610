// The Gaussian process of estimate.h: from the odd part of a game on some coalitions to its Shapley values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace deepseek::explain {

struct CoalitionPosterior {
  std::vector<double> mean, deviation;  ///< [players]
  double freedom = 1;                   ///< degrees of freedom behind the deviations
};

/// coalitions [count, players] of 0 and 1, no two equal or complements; odd [count]: u(S) = (v(S) - v(complement)) / 2, not all known to be 0.
/// More than kMostPoints coalitions are treated in parts of that size, which bounds the memory, and the parts' results averaged.
[[nodiscard]] CoalitionPosterior coalition_posterior(std::span<const uint8_t> coalitions, int64_t players, std::span<const double> odd);

constexpr int64_t kMostPoints = 4096;    // a matrix of 128 MiB
constexpr int64_t kLearningPoints = 512;  // the parameters are learned from so many

}  // namespace deepseek::explain
