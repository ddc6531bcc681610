#include "explain/game.h"

#include <algorithm>
#include <cmath>

namespace deepseek::explain {

namespace {

constexpr size_t kRowsAtATime = 16384, kMostNumbers = size_t{1} << 24;  // of conditional games; 128 MiB

// The weighted mean of the scores of the rows of each coalition, as many for one as for another.
base::Status mean_scores(const Scorer& scorer, std::span<const double> rows, std::span<const double> weights, std::span<double> worth) {
  auto scores = scorer(rows);
  if (!scores) return base::pass(scores);
  if (scores->size() != weights.size()) return base::fail("the model gave {} scores for {} rows", scores->size(), weights.size());
  const size_t each = weights.size() / worth.size();
  for (size_t c = 0; c < worth.size(); ++c) {
    double sum = 0, whole = 0;
    for (size_t i = c * each; i < (c + 1) * each; ++i) sum += weights[i] * (*scores)[i], whole += weights[i];
    if (!std::isfinite(sum)) return base::fail("the model gave a score that is no number; it is asked for rows that mix the sample with the background");
    worth[c] = sum / whole;
  }
  return {};
}

// Places from 0 to 1 in the order of the column's values with the row's among them; ties share theirs.
double rank_of(const std::vector<double>& sorted, double x) {
  const auto low = std::lower_bound(sorted.begin(), sorted.end(), x), high = std::upper_bound(sorted.begin(), sorted.end(), x);
  return static_cast<double>((low - sorted.begin()) + (high - sorted.begin())) / 2 / static_cast<double>(std::max<size_t>(sorted.size(), 1));
}

}  // namespace

base::Status FunctionGame::worth(std::span<const uint8_t> coalitions, std::span<double> worth) {
  const auto n = static_cast<size_t>(players_);
  for (size_t i = 0; i < worth.size(); ++i) worth[i] = worth_(coalitions.subspan(i * n, n));
  return {};
}

MarginalGame::MarginalGame(Scorer scorer, std::vector<double> row, std::vector<double> background, int64_t rows_at_a_time)
    : scorer_(std::move(scorer)), rows_(row, background), players_(static_cast<int64_t>(row.size())), rows_at_a_time_(rows_at_a_time) {}

base::Status MarginalGame::worth(std::span<const uint8_t> coalitions, std::span<double> worth) { return rows_.mean_scores(scorer_, coalitions, rows_at_a_time_, worth); }

ConditionalGame::ConditionalGame(Scorer scorer, std::vector<double> row, std::vector<double> pool, int64_t neighbours, std::vector<uint8_t> is_category)
    : scorer_(std::move(scorer)), row_(std::move(row)), pool_(std::move(pool)), neighbours_(std::min(static_cast<size_t>(neighbours), pool_.size() / row_.size())), squares_(pool_.size()) {
  const size_t n = row_.size();
  for (size_t j = 0; j < n; ++j) {
    const bool category = j < is_category.size() && is_category[j] != 0;
    std::vector<double> sorted;
    for (size_t i = j; i < pool_.size(); i += n) {
      if (!std::isnan(pool_[i])) sorted.push_back(pool_[i]);
    }
    std::sort(sorted.begin(), sorted.end());
    const double mine = rank_of(sorted, row_[j]);
    for (size_t i = j; i < pool_.size(); i += n) {
      const bool missing = std::isnan(pool_[i]), both = missing && std::isnan(row_[j]);
      const double d = both ? 0 : missing || std::isnan(row_[j]) ? 1 : category ? (pool_[i] == row_[j] ? 0 : 1) : rank_of(sorted, pool_[i]) - mine;
      squares_[i] = d * d;
    }
  }
}

base::Status ConditionalGame::worth(std::span<const uint8_t> coalitions, std::span<double> worth) {
  const size_t n = row_.size(), count = pool_.size() / n, k = neighbours_, at_a_time = std::max<size_t>(1, std::min(kRowsAtATime, kMostNumbers / n) / k);
  std::vector<double> rows, weights, distance(count);
  std::vector<size_t> order(count);
  for (size_t first = 0; first < worth.size(); first += at_a_time) {
    const size_t last = std::min(worth.size(), first + at_a_time);
    rows.clear(), weights.clear();
    for (size_t c = first; c < last; ++c) {
      const uint8_t* known = coalitions.data() + c * n;
      for (size_t r = 0; r < count; ++r) {
        order[r] = r;
        distance[r] = 0;
        for (size_t j = 0; j < n; ++j) distance[r] += known[j] != 0 ? squares_[r * n + j] : 0;
      }
      const auto nearer = [&](size_t a, size_t b) { return distance[a] < distance[b] || (distance[a] == distance[b] && a < b); };
      std::nth_element(order.begin(), order.begin() + static_cast<int64_t>(k - 1), order.end(), nearer);
      std::sort(order.begin(), order.begin() + static_cast<int64_t>(k), nearer);
      double spread = 0;
      for (size_t i = 0; i < k; ++i) spread += distance[order[i]] / static_cast<double>(k);
      for (size_t i = 0; i < k; ++i) {
        weights.push_back(spread > 0 ? std::exp(-distance[order[i]] / (2 * spread)) : 1);
        for (size_t j = 0; j < n; ++j) rows.push_back(known[j] != 0 ? row_[j] : pool_[order[i] * n + j]);
      }
    }
    if (base::Status ok = mean_scores(scorer_, rows, weights, worth.subspan(first, last - first)); !ok) return ok;
  }
  return {};
}

}  // namespace deepseek::explain
