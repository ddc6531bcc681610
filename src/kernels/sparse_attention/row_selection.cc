#include "kernels/sparse_attention/row_selection.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/power.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kLanes = 16;  // sums in so many parts, so that the vector width does not change them
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
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      const float weight = weights[i + j];  // read apart: of a load under the condition GCC 12 makes wrong sums for AVX2
      lanes[j] += x[i + j] >= threshold ? weight : 0.0f;
    }
  }
  float sum = 0;
  for (; i < n; ++i) sum += x[i] >= threshold ? weights[i] : 0.0f;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// Below e^-87 fast_exp would stay above 0.
constexpr float kSmallestPower = -87.0f;

inline float weight_of(float x, float shift, float scale) {
  const float power = (x - shift) * scale;
  const float e = fast_exp(power);
  return power < kSmallestPower ? 0.0f : e;
}

// e^x for x in [-87, 0] with the error of power.h: of degree 5 for weights in f32 (|x| 2^-26 more of the rounding of log2 e, |x| 2^-23 more without FMA),
// of degree 3 for those that are rounded to bf16 next.
template <typename T>
inline float power(float x) {
  constexpr int kDegree = sizeof(T) == 4 ? 5 : 3;
  const float shifted = x * kLog2E + kRoundToPower, r = x * kLog2E - (shifted - kRoundToPower);
  float p = kPowerOf2[kDegree - 3][0];
  for (int i = 1; i <= kDegree; ++i) p = p * r + kPowerOf2[kDegree - 3][i];
  return p * std::bit_cast<float>(std::bit_cast<uint32_t>(shifted) << 23);
}

inline void put(float value, float* to) { *to = value; }
inline void put(float value, uint16_t* to) { *to = static_cast<uint16_t>((std::bit_cast<uint32_t>(value) + 0x8000u) >> 16); }  // ties go up

// The threshold leaves out what lies below power()'s range; x <= shift spares the upper one. `to` may be x.
template <bool kEqual, typename T>
inline float kept_part(const float* x, T* to, int64_t n, float threshold, float shift, float scale) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    float weights[kLanes];
    for (int64_t j = 0; j < kLanes; ++j) {
      const float value = x[i + j], e = power<T>((value - shift) * scale);
      weights[j] = (kEqual ? value >= threshold : value > threshold) ? e : 0.0f;
    }
    for (int64_t j = 0; j < kLanes; ++j) {
      put(weights[j], to + i + j);
      lanes[j] += weights[j];
    }
  }
  float sum = 0;
  for (; i < n; ++i) {
    const float kept = (kEqual ? x[i] >= threshold : x[i] > threshold) ? power<T>((x[i] - shift) * scale) : 0.0f;
    put(kept, to + i);
    sum += kept;
  }
  for (const float lane : lanes) sum += lane;
  return sum;
}

DEEPSEEK_VECTOR_CLONES float kept_up_to(const float* x, float* to, int64_t n, float threshold, float shift, float scale) {
  return kept_part<true>(x, to, n, threshold, shift, scale);
}
DEEPSEEK_VECTOR_CLONES float kept_above(const float* x, float* to, int64_t n, float threshold, float shift, float scale) {
  return kept_part<false>(x, to, n, threshold, shift, scale);
}
DEEPSEEK_VECTOR_CLONES float rounded_up_to(const float* x, uint16_t* to, int64_t n, float threshold, float shift, float scale) {
  return kept_part<true>(x, to, n, threshold, shift, scale);
}
DEEPSEEK_VECTOR_CLONES float rounded_above(const float* x, uint16_t* to, int64_t n, float threshold, float shift, float scale) {
  return kept_part<false>(x, to, n, threshold, shift, scale);
}

// Where the two rules of a selection meet, and its threshold, raised over what would be nothing.
struct KeptParts {
  int64_t equal;
  float threshold;
  KeptParts(int64_t n, const KeptScores& kept, float shift, float scale)
      : equal(std::clamp<int64_t>(kept.equal_before, 0, n)), threshold(kept.threshold) {
    float least = shift + kSmallestPower / scale;
    while ((least - shift) * scale < kSmallestPower) least = std::nextafter(least, kInfinity);  // of a large shift the sum was rounded down
    if (least <= threshold) return;
    threshold = least;
    equal = n;
  }
};

// Whole numbers in the order of the floats.
int64_t order_of(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  return bits < 0 ? static_cast<int64_t>(bits ^ 0x7FFFFFFF) : bits;
}
float float_at(int64_t order) {
  const auto bits = static_cast<int32_t>(order);
  return std::bit_cast<float>(bits < 0 ? bits ^ 0x7FFFFFFF : bits);
}

// Between two thresholds: at `low` enough is kept, at `high` too little. Counts are of the scores from the threshold on.
struct Bracket {
  float low, high;
  int64_t low_count, high_count;

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

Bracket whole(const RowFacts& facts, int64_t n) { return {facts.smallest, float_at(order_of(facts.largest) + 1), n, 0}; }

// Index after the `wanted`-th score that equals x.
int64_t end_of_equal(const float* x, int64_t n, float value, int64_t wanted) {
  int64_t i = 0;
  for (; i < n && wanted > 0; ++i) wanted -= x[i] == value ? 1 : 0;
  return i;
}

}  // namespace

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

KeptScores scores_of_mass(const float* x, const float* weights, int64_t n, int64_t least, float mass, const RowFacts& facts) {
  Bracket bracket = whole(facts, n);
  float low_mass = mass_from(x, weights, facts.smallest, n), high_mass = 0;
  for (int step = 0; bracket.low_count - bracket.high_count > 1 && !bracket.closed(); ++step) {
    const double share = (static_cast<double>(low_mass) - mass) / (static_cast<double>(low_mass) - high_mass);
    const double guess = step % 2 == 1 ? bracket.low + (static_cast<double>(bracket.high) - bracket.low) * share : static_cast<double>(kInfinity);
    const float t = bracket.inside(guess, step);
    const int64_t found = count_from(x, t, n);
    const float held = mass_from(x, weights, t, n);
    const bool enough = found >= least && held >= mass;
    bracket.move(enough, t, found);
    (enough ? low_mass : high_mass) = held;
  }
  if (bracket.low_count - bracket.high_count <= 1) return {bracket.low, n};
  int64_t wanted = std::max<int64_t>(least - bracket.high_count, 0), end = 0;
  for (; end < n; ++end) {
    if (wanted <= 0 && high_mass >= mass) break;
    if (x[end] != bracket.low) continue;
    high_mass += weights[end];
    --wanted;
  }
  return {bracket.low, end};
}

DEEPSEEK_VECTOR_CLONES float exponentials(const float* x, float shift, float scale, float* out, int64_t n) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    float weights[kLanes];
    for (int64_t j = 0; j < kLanes; ++j) weights[j] = weight_of(x[i + j], shift, scale);
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] += out[i + j] = weights[j];
  }
  float sum = 0;
  for (; i < n; ++i) sum += out[i] = weight_of(x[i], shift, scale);
  for (const float lane : lanes) sum += lane;
  return sum;
}

float kept_exponentials(float* x, int64_t n, const KeptScores& kept, float shift, float scale) {
  const KeptParts parts(n, kept, shift, scale);
  const float before = kept_up_to(x, x, parts.equal, parts.threshold, shift, scale);
  return before + kept_above(x + parts.equal, x + parts.equal, n - parts.equal, parts.threshold, shift, scale);
}

float kept_exponentials(const float* x, uint16_t* rounded, int64_t n, const KeptScores& kept, float shift, float scale) {
  const KeptParts parts(n, kept, shift, scale);
  const float before = rounded_up_to(x, rounded, parts.equal, parts.threshold, shift, scale);
  return before + rounded_above(x + parts.equal, rounded + parts.equal, n - parts.equal, parts.threshold, shift, scale);
}

DEEPSEEK_VECTOR_CLONES void score_gradient(const float* p, float mean, float scale, float* g, int64_t n) {
  for (int64_t i = 0; i < n; ++i) g[i] = scale * p[i] * (g[i] - mean);
}

}  // namespace deepseek::kernels
