#include "explain/estimate.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_set>

#include "base/random.h"
#include "explain/coalition_process.h"
#include "explain/exact.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;

// Coalitions of which no two are equal or complements: all players, each alone where there is room, then sizes by the Shapley kernel.
class Design {
 public:
  Design(int64_t players, int64_t pairs, uint64_t seed) : n_(players), draw_{seed}, order_(static_cast<size_t>(players)) {
    for (int64_t i = 0; i < n_; ++i) order_[static_cast<size_t>(i)] = i;
    double sum = 0;
    for (int64_t size = 1; size < n_; ++size) cumulative_.push_back(sum += 1 / (static_cast<double>(size) * static_cast<double>(n_ - size)));
    add(order_);
    for (int64_t i = 0; pairs > n_ && i < n_; ++i) add({&i, 1});
  }

  // Coalitions so far, [count, players].
  const std::vector<uint8_t>& coalitions() const { return coalitions_; }
  int64_t count() const { return static_cast<int64_t>(coalitions_.size()) / n_; }

  void extend(int64_t pairs) {
    for (int64_t tries = 0; count() < pairs && tries < 200 * pairs; ++tries) {
      const double at = uniform() * cumulative_.back();
      const int64_t size = 1 + (std::upper_bound(cumulative_.begin(), cumulative_.end(), at) - cumulative_.begin());
      for (int64_t i = 0; i < size; ++i) std::swap(order_[static_cast<size_t>(i)], order_[static_cast<size_t>(i + below(n_ - i))]);
      add(std::span(order_).first(static_cast<size_t>(size)));
    }
  }

 private:
  double uniform() { return static_cast<double>(draw_() >> 11) * 0x1p-53; }
  int64_t below(int64_t n) { return static_cast<int64_t>(uniform() * static_cast<double>(n)); }

  void add(std::span<const int64_t> members) {
    std::string row(static_cast<size_t>(n_), '\0');
    for (const int64_t member : members) row[static_cast<size_t>(member)] = '\1';
    if (row[0] == '\0') {
      for (char& c : row) c = c == '\0' ? '\1' : '\0';  // the one of a pair that holds the first player
    }
    if (!seen_.insert(row).second) return;
    coalitions_.insert(coalitions_.end(), row.begin(), row.end());
  }

  int64_t n_;
  base::SplitMix64 draw_;
  std::vector<int64_t> order_;
  std::vector<double> cumulative_;
  std::vector<uint8_t> coalitions_;
  std::unordered_set<std::string> seen_;
};

// z with P(|Z| <= z) = confidence, for a standard normal Z.
double two_sided(double confidence) {
  double low = 0, high = 40;
  for (int i = 0; i < 200; ++i) {
    const double z = (low + high) / 2;
    (std::erf(z / std::sqrt(2.0)) < confidence ? low : high) = z;
  }
  return low;
}

// Student's quantile from the normal one; source: Abramowitz and Stegun, 26.7.5.
double student(double z, double freedom) {
  const double z3 = z * z * z, z5 = z3 * z * z;
  return z + (z3 + z) / (4 * freedom) + (5 * z5 + 16 * z3 + 3 * z) / (96 * freedom * freedom);
}

Result<Estimate> enumerated(Game& game) {
  auto table = worth_table(game);
  if (!table) return base::pass(table);
  Estimate estimate{.values = shapley_values(*table), .half_width = {}, .base = table->front(), .total = table->back(), .asked = static_cast<int64_t>(table->size()), .exact = true};
  estimate.half_width.assign(estimate.values.size(), 0);
  return estimate;
}

class Estimator {
 public:
  Estimator(Game& game, const EstimateOptions& o, int64_t pairs) : game_(game), o_(o), pairs_(pairs), design_(game.players(), pairs, o.seed), z_(two_sided(o.confidence)) {}

  Result<Estimate> run() {
    for (int64_t goal = o_.precision > 0 ? std::min(pairs_, std::max<int64_t>(2 * game_.players() + 16, 64)) : pairs_;; goal = std::min(pairs_, goal * 2)) {
      design_.extend(goal);
      if (Status ok = ask(); !ok) return base::pass(ok);
      estimate();
      result_.precise = o_.precision <= 0 || *std::max_element(result_.half_width.begin(), result_.half_width.end()) <= o_.precision;
      if (goal >= pairs_ || (o_.precision > 0 && result_.precise)) return std::move(result_);
    }
  }

 private:
  // The worth of what the design has added, and of its complements.
  Status ask() {
    const auto n = static_cast<size_t>(game_.players()), first = odd_.size(), count = static_cast<size_t>(design_.count()) - first;
    std::vector<uint8_t> both(design_.coalitions().begin() + static_cast<int64_t>(first * n), design_.coalitions().end());
    both.resize(2 * count * n);
    for (size_t i = 0; i < count * n; ++i) both[count * n + i] = both[i] == 0 ? 1 : 0;
    std::vector<double> worth(2 * count);
    if (Status ok = game_.worth(both, worth); !ok) return ok;
    if (first == 0) {
      result_.total = worth[0];
      result_.base = worth[count];
    }
    for (size_t i = 0; i < count; ++i) odd_.push_back((worth[i] - worth[count + i]) / 2);
    result_.asked += static_cast<int64_t>(2 * count);
    return {};
  }

  void estimate() {
    const CoalitionPosterior posterior = coalition_posterior(design_.coalitions(), game_.players(), odd_);
    result_.values = posterior.mean;
    result_.half_width.resize(posterior.mean.size());
    for (size_t i = 0; i < result_.half_width.size(); ++i) result_.half_width[i] = student(z_, posterior.freedom) * posterior.deviation[i];
  }

  Game& game_;
  const EstimateOptions& o_;
  int64_t pairs_;
  Design design_;
  double z_;
  std::vector<double> odd_;
  Estimate result_;
};

}  // namespace

Result<Estimate> estimate_shapley(Game& game, const EstimateOptions& o) {
  const int64_t n = game.players(), budget = o.budget == 0 ? 2 * n + 2048 : o.budget;
  if (n < 1) return base::refuse("there is nothing to attribute to: no features");
  if (budget < 4) return base::refuse("a budget of {} coalitions is too small; 4 are the fewest", budget);
  if (!(o.confidence > 0 && o.confidence < 1)) return base::refuse("a confidence lies between 0 and 1; {} does not", o.confidence);
  if (n <= 2 || (n <= kMostExactPlayers && budget >= int64_t{1} << n)) return enumerated(game);
  return Estimator(game, o, budget / 2).run();
}

}  // namespace deepseek::explain
