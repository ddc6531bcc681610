// Shares of a sum of means, with intervals over the rows. Private to this folder.
#pragma once

#include <span>
#include <vector>

namespace deepseek::explain {

struct Share {
  double share = 0, half_width = 0;
};

/// Of each part: mean of sizes [rows, parts] over the mean of totals [rows]. The interval is that of a ratio of means (delta method) over the rows, joined with the
/// intervals `inner` [rows, parts] that the sizes have themselves (empty: none), which are at the same confidence; z: two_sided() of it. All 0 where the totals are.
[[nodiscard]] std::vector<Share> shares_of(std::span<const double> sizes, std::span<const double> totals, std::span<const double> inner, double z);

}  // namespace deepseek::explain
