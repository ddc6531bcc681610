#include "kernels/sparse_attention/row_selection.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

DEEPSEEK_VECTOR_CLONES int64_t count_from(const float* x, float threshold, int64_t n) {
  int32_t counts[64] = {}, count = 0;  // so many at once: the loop itself costs as much as what is in it
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    for (int64_t j = 0; j < 64; ++j) counts[j] += x[i + j] >= threshold ? 1 : 0;
  }
  for (; i < n; ++i) count += x[i] >= threshold ? 1 : 0;
  for (const int32_t part : counts) count += part;
  return count;
}

DEEPSEEK_VECTOR_CLONES float mass_from(const float* x, const float* weights, float threshold, int64_t n) {
  float lanes[64] = {}, sum = 0;
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    for (int64_t j = 0; j < 64; ++j) {
      const float weight = weights[i + j];  // read apart: of a load under the condition GCC 12 makes wrong sums for AVX2
      lanes[j] += x[i + j] >= threshold ? weight : 0.0f;
    }
  }
  for (; i < n; ++i) sum += x[i] >= threshold ? weights[i] : 0.0f;
  for (int64_t width = 32; width > 0; width /= 2) {
    for (int64_t j = 0; j < width; ++j) lanes[j] += lanes[j + width];
  }
  return sum + lanes[0];
}

// Whole numbers in the order of the floats.
int64_t order_of(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  return bits < 0 ? static_cast<int64_t>(bits ^ 0x7FFFFFFF) : bits;
}
float float_at(int64_t order) {
  const auto bits = static_cast<int32_t>(order);
  return std::bit_cast<float>(bits < 0 ? bits ^ 0x7FFFFFFF : bits);
}

// The next float; both zeros are one.
float after(float x) { return float_at(x == 0 ? 1 : order_of(x) + 1); }

// Between two thresholds: at `low` enough is kept, at `high` too little. Counts are of the scores from the threshold on.
struct Bracket {
  float low, high;
  int64_t low_count, high_count;

  [[nodiscard]] int64_t left() const { return low_count - high_count; }
  [[nodiscard]] bool closed() const { return order_of(high) - order_of(low) <= 1; }
  // `guess` where it lies inside; else the middle, by value at first and later by bits, which ends in at most 32 steps.
  [[nodiscard]] float inside(double guess, int step) const {
    for (const double t : {guess, step < 40 ? 0.5 * (static_cast<double>(low) + high) : static_cast<double>(kInfinity)}) {
      const auto x = static_cast<float>(t);
      if (x > low && x < high) return x;
    }
    return float_at(order_of(low) + (order_of(high) - order_of(low)) / 2);
  }
  void move(bool enough, float t, int64_t count) {
    (enough ? low : high) = t;
    (enough ? low_count : high_count) = count;
  }
};

Bracket whole(const RowFacts& facts, int64_t n) { return {facts.smallest, after(facts.largest), n, 0}; }

// Index after the `wanted`-th score that equals x.
int64_t end_of_equal(const float* x, int64_t n, float value, int64_t wanted) {
  int64_t i = 0;
  for (; i < n && wanted > 0; ++i) wanted -= x[i] == value ? 1 : 0;
  return i;
}

}  // namespace

int64_t kept_count(const float* x, int64_t n, const KeptScores& kept) {
  const int64_t equal = std::clamp<int64_t>(kept.equal_before, 0, n);
  return count_from(x, kept.threshold, equal) + count_from(x + equal, after(kept.threshold), n - equal);
}

float kept_mass(const float* x, const float* weights, int64_t n, const KeptScores& kept) {
  const int64_t equal = std::clamp<int64_t>(kept.equal_before, 0, n);
  return mass_from(x, weights, kept.threshold, equal) + mass_from(x + equal, weights + equal, after(kept.threshold), n - equal);
}

double normal_quantile(double p) {
  const double t = std::sqrt(-2 * std::log(std::min(p, 1 - p)));
  const double z = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
  return p < 0.5 ? z : -z;
}

DEEPSEEK_VECTOR_CLONES RowFacts facts_of(const float* x, int64_t n) {
  constexpr int64_t kApart = 64;  // sums of one register each would wait for each other
  float low[kApart], high[kApart], sum[kApart] = {}, squares[kApart] = {};
  for (int64_t j = 0; j < kApart; ++j) low[j] = kInfinity, high[j] = -kInfinity;
  const auto take = [&](float value, int64_t j) {
    low[j] = value < low[j] ? value : low[j];
    high[j] = value > high[j] ? value : high[j];
    sum[j] += value;
    squares[j] += value * value;
  };
  int64_t i = 0;
  for (; i + kApart <= n; i += kApart) {
    for (int64_t j = 0; j < kApart; ++j) take(x[i + j], j);
  }
  for (int64_t j = 0; i < n; ++i, ++j) take(x[i], j);
  for (int64_t width = kApart / 2; width > 0; width /= 2) {
    for (int64_t j = 0; j < width; ++j) {
      low[j] = low[j + width] < low[j] ? low[j + width] : low[j];
      high[j] = high[j + width] > high[j] ? high[j + width] : high[j];
      sum[j] += sum[j + width];
      squares[j] += squares[j + width];
    }
  }
  RowFacts facts{low[0], high[0], 0, 0, false};
  const float total = sum[0], total_squares = squares[0];
  if (total != total) facts.has_nan = std::any_of(x, x + n, [](float value) { return value != value; });  // or it is the sum of both infinities
  facts.mean = total / static_cast<float>(n);
  facts.deviation = std::sqrt(std::max(0.0f, total_squares / static_cast<float>(n) - facts.mean * facts.mean));
  return facts;
}

KeptScores largest_scores(const float* x, int64_t n, int64_t count, const RowFacts& facts) {
  if (count >= n) return {facts.smallest, n};
  Bracket bracket = whole(facts, n);
  // The first two guesses take the scores for normal ones; the second aims beyond the goal, so that it is enclosed.
  const double z = normal_quantile(static_cast<double>(count) / static_cast<double>(n));
  const double density = static_cast<double>(n) * 0.3989423 * std::exp(-0.5 * z * z) / facts.deviation;
  double guess = facts.mean + z * facts.deviation;
  for (int step = 0; bracket.low_count != count && !bracket.closed(); ++step) {
    const float t = bracket.inside(guess, step);
    const int64_t found = count_from(x, t, n);
    bracket.move(found >= count, t, found);
    const auto over = static_cast<double>(found - count);
    if (step == 0) {
      guess = t + (over + std::copysign(2 + std::sqrt(std::abs(over)), over)) / density;
    } else if (step > 8 && step % 2 == 1) {
      guess = kInfinity;
    } else {
      const auto inside = static_cast<double>(bracket.low_count - bracket.high_count);
      guess = bracket.low + (static_cast<double>(bracket.high) - bracket.low) * (static_cast<double>(bracket.low_count - count) + 0.5) / inside;
    }
  }
  if (bracket.low_count == count) return {bracket.low, n};
  return {bracket.low, end_of_equal(x, n, bracket.low, count - bracket.high_count)};
}

KeptScores scores_of_mass(const float* x, const float* weights, int64_t n, int64_t least, float mass, const RowFacts& facts, float scale) {
  Bracket bracket = whole(facts, n);
  float low_mass = mass_from(x, weights, facts.smallest, n), high_mass = 0;
  // The first two guesses take the scores for normal ones, so that their weights above t have the mass of scores above t - scale deviation^2; the second
  // aims beyond the goal.
  const double z = normal_quantile(std::clamp(static_cast<double>(mass) / low_mass, 1e-6, 1 - 1e-6));
  const double density = static_cast<double>(low_mass) * 0.3989423 * std::exp(-0.5 * z * z) / facts.deviation;
  double guess = facts.mean + (z + static_cast<double>(scale) * facts.deviation) * facts.deviation;
  for (int step = 0; bracket.left() > 1 && !bracket.closed(); ++step) {
    const float t = bracket.inside(guess, step);
    const int64_t found = count_from(x, t, n);
    const float held = mass_from(x, weights, t, n);
    const bool enough = found >= least && held >= mass;
    bracket.move(enough, t, found);
    (enough ? low_mass : high_mass) = held;
    const double over = static_cast<double>(held) - mass, share = (static_cast<double>(low_mass) - mass) / (static_cast<double>(low_mass) - high_mass);
    if (step == 0) guess = t + (over + std::copysign(0.3 * std::abs(over), over)) / density;
    else guess = step > 3 && step % 2 == 0 ? kInfinity : bracket.low + (static_cast<double>(bracket.high) - bracket.low) * share;
  }
  if (bracket.left() <= 1) return {bracket.low, n};
  int64_t wanted = std::max<int64_t>(least - bracket.high_count, 0), end = 0;  // all of those left are equal
  double held = high_mass;  // in f32 many small ones would add nothing
  for (; end < n; ++end) {
    if (wanted <= 0 && held >= mass) break;
    if (x[end] != bracket.low) continue;
    held += weights[end];
    --wanted;
  }
  return {bracket.low, end};
}

}  // namespace deepseek::kernels
