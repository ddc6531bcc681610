#include "explain/reliance/shares.h"

#include <cmath>

namespace deepseek::explain {

std::vector<Share> shares_of(std::span<const double> sizes, std::span<const double> totals, std::span<const double> inner, double z) {
  const size_t rows = totals.size(), parts = rows == 0 ? 0 : sizes.size() / rows;
  const auto count = static_cast<double>(rows);
  std::vector<Share> shares(parts);
  double total = 0;
  for (const double t : totals) total += t / count;
  if (!(total > 0)) return shares;
  for (size_t p = 0; p < parts; ++p) {
    double mean = 0, squares = 0, widths = 0;
    for (size_t r = 0; r < rows; ++r) mean += sizes[r * parts + p] / count;
    const double share = mean / total;
    for (size_t r = 0; r < rows; ++r) {
      const double error = sizes[r * parts + p] - share * totals[r];
      squares += error * error;
      if (!inner.empty()) widths += inner[r * parts + p] * inner[r * parts + p];
    }
    const double deviation = rows > 1 ? std::sqrt(squares / (count - 1) / count) / total : 0;
    shares[p] = {.share = share, .half_width = std::hypot(z * deviation, std::sqrt(widths) / (count * total))};
  }
  return shares;
}

}  // namespace deepseek::explain
