#include "explain/game.h"

#include <algorithm>
#include <cmath>

namespace deepseek::explain {

base::Status FunctionGame::worth(std::span<const uint8_t> coalitions, std::span<double> worth) {
  const auto n = static_cast<size_t>(players_);
  for (size_t i = 0; i < worth.size(); ++i) worth[i] = worth_(coalitions.subspan(i * n, n));
  return {};
}

MarginalGame::MarginalGame(Scorer scorer, std::vector<double> row, std::vector<double> background, int64_t rows_at_a_time)
    : scorer_(std::move(scorer)), row_(std::move(row)), background_(std::move(background)), rows_at_a_time_(rows_at_a_time) {}

base::Status MarginalGame::worth(std::span<const uint8_t> coalitions, std::span<double> worth) {
  const size_t n = row_.size(), count = background_.size() / n, at_a_time = std::max<size_t>(1, static_cast<size_t>(rows_at_a_time_) / count);
  std::vector<double> rows;
  for (size_t first = 0; first < worth.size(); first += at_a_time) {
    const size_t last = std::min(worth.size(), first + at_a_time);
    rows.resize((last - first) * background_.size());
    double* to = rows.data();
    for (size_t i = first; i < last; ++i) {
      const uint8_t* known = coalitions.data() + i * n;
      for (size_t b = 0; b < count; ++b, to += n) {
        for (size_t j = 0; j < n; ++j) to[j] = known[j] != 0 ? row_[j] : background_[b * n + j];
      }
    }
    auto scores = scorer_(rows);
    if (!scores) return base::pass(scores);
    if (scores->size() != (last - first) * count) return base::fail("the model gave {} scores for {} rows", scores->size(), (last - first) * count);
    rows_scored_ += static_cast<int64_t>(scores->size());
    for (size_t i = first; i < last; ++i) {
      double sum = 0;
      for (size_t b = 0; b < count; ++b) sum += (*scores)[(i - first) * count + b];
      if (!std::isfinite(sum)) return base::fail("the model gave a score that is no number; it is asked for rows that mix the sample with the background");
      worth[i] = sum / static_cast<double>(count);
    }
  }
  return {};
}

}  // namespace deepseek::explain
