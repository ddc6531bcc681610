#include "kernels/sparse_attention/selection.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <limits>

#include "kernels/paged_attention/kv_pool.h"
#include "kernels/simd.h"
#include "kernels/sparse_attention/row_selection.h"

namespace deepseek::kernels {
namespace {

// Numbers from 0 on order as their bits do; NaN is above all.
constexpr int64_t kAboveAll = int64_t{1} << 31;
inline int32_t order_of(float importance) { return std::bit_cast<int32_t>(importance) & 0x7FFFFFFF; }

// Number and sum of the importances of an order from `least` on.
DEEPSEEK_VECTOR_CLONES int64_t count_from(const float* x, int32_t least, int64_t n) {
  int32_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += order_of(x[i]) >= least ? 1 : 0;
  return count;
}
DEEPSEEK_VECTOR_CLONES float mass_from(const float* x, int32_t least, int64_t n) {
  float lanes[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int64_t j = 0; j < 16; ++j) {
      const float value = x[i + j];  // read apart: of a load under the condition GCC 12 makes wrong sums for AVX2
      lanes[j] += order_of(value) >= least ? value : 0.0f;
    }
  }
  float sum = 0;
  for (; i < n; ++i) sum += order_of(x[i]) >= least ? x[i] : 0.0f;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// Mean and deviation of the orders of some importances, in octaves: where a search begins.
struct Moments {
  double mean = 0, deviation = 0;
  Moments(const float* x, int64_t n) {
    const int64_t stride = std::max<int64_t>(1, n / 64), some = (n + stride - 1) / stride;
    for (int64_t i = 0; i < n; i += stride) {
      const double octaves = order_of(x[i]) * 0x1p-23;
      mean += octaves / static_cast<double>(some);
      deviation += octaves * octaves / static_cast<double>(some);
    }
    deviation = std::sqrt(std::max(0.0, deviation - mean * mean));
  }
};

struct Held {
  int64_t count = 0;
  float mass = 0;
};

// The importances of an order from `low` on are enough for a budget, those from `high` on are not.
class Bracket {
 public:
  Bracket(const float* x, int64_t n, int64_t least, int64_t most, float mass)
      : x_(x), n_(n), least_(least), most_(most), mass_(mass), counts_(least == most), at_low_{n, counts_ ? 0.0f : mass_from(x, 0, n)} {
    if (enough(at_high_)) low_ = high_;
  }

  // Ends where one is left between low and high, or equal ones. Every second guess from the third on is the middle, so that it does end.
  void close() {
    if (!open()) return;
    const Moments moments(x_, n_);
    double guess = first_guess(moments);
    for (int step = 0; open(); ++step) {
      const bool guesses = (step < 2 || step % 2 == 0) && std::isfinite(guess);
      const int64_t middle = guesses ? std::llround(std::clamp(guess * 0x1p23, 0.0, 0x1p31)) : low_ + (high_ - low_) / 2;
      const auto order = static_cast<int32_t>(std::clamp(middle, low_ + 1, high_ - 1));
      const Held held{count_from(x_, order, n_), counts_ ? 0.0f : mass_from(x_, order, n_)};
      const Aim before = aim();
      const bool is_enough = enough(held);
      (is_enough ? low_ : high_) = order;
      (is_enough ? at_low_ : at_high_) = held;
      guess = step == 0 ? order * 0x1p-23 + beyond(before, held, moments) : between();
    }
  }

  [[nodiscard]] bool enough(const Held& held) const { return held.count >= most_ || (held.count >= least_ && !(held.mass < mass_)); }
  [[nodiscard]] int64_t low() const { return low_; }
  [[nodiscard]] int64_t high() const { return high_; }
  [[nodiscard]] const Held& at_high() const { return at_high_; }
  [[nodiscard]] int64_t left() const { return low_ < high_ ? at_low_.count - at_high_.count : 0; }

 private:
  // What is looked for: a number of them, or a mass; and what all of them have of it.
  struct Aim {
    bool count;
    double goal, all;
    [[nodiscard]] double of(const Held& held) const { return count ? static_cast<double>(held.count) : held.mass; }
  };
  [[nodiscard]] Aim aim() const {
    if (counts_ || at_low_.mass < mass_) return {true, static_cast<double>(most_), static_cast<double>(n_)};
    if (at_high_.mass >= mass_) return {true, static_cast<double>(least_), static_cast<double>(n_)};
    return {false, mass_, at_low_.mass};
  }
  [[nodiscard]] bool open() const { return high_ - low_ > 1 && left() > 1; }
  static double quantile(const Aim& a) { return normal_quantile(std::clamp(a.goal / a.all, 1e-6, 1 - 1e-6)); }
  // Takes the logarithms for normal ones. Source: the mass of a log-normal above z is that of a normal above z - sigma.
  [[nodiscard]] double first_guess(const Moments& m) const {
    const Aim a = aim();
    return m.mean + (quantile(a) + (a.count ? 0 : 0.6931472 * m.deviation)) * m.deviation;
  }
  // From there to the goal and beyond it, so that it is enclosed.
  static double beyond(const Aim& a, const Held& held, const Moments& m) {
    const double z = quantile(a), density = a.all * 0.3989423 * std::exp(-0.5 * z * z) / m.deviation, over = a.of(held) - a.goal;
    return (over + std::copysign(a.count ? 2 + std::sqrt(std::abs(over)) : 0.1 * std::abs(over), over)) / density;
  }
  [[nodiscard]] double between() const {
    const Aim a = aim();
    const double share = std::clamp((a.of(at_low_) - a.goal) / (a.of(at_low_) - a.of(at_high_)), 0.0, 1.0);
    return (static_cast<double>(low_) + static_cast<double>(high_ - low_) * share) * 0x1p-23;
  }

  const float* x_;
  int64_t n_, least_, most_;
  float mass_;
  bool counts_;  // the mass decides nothing
  int64_t low_ = 0, high_ = kAboveAll;
  Held at_low_, at_high_;
};

DEEPSEEK_VECTOR_CLONES float exponentials(float* x, float largest, int64_t n) {
  float sums[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int64_t j = 0; j < 16; ++j) sums[j] += x[i + j] = fast_exp(x[i + j] - largest);
  }
  float sum = 0;
  for (; i < n; ++i) sum += x[i] = fast_exp(x[i] - largest);
  for (const float part : sums) sum += part;
  return sum;
}

DEEPSEEK_VECTOR_CLONES void scale(float* x, float by, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= by;
}

// NaN is passed over.
DEEPSEEK_VECTOR_CLONES float largest_of(const float* x, int64_t n) {
  float most[16];
  std::fill_n(most, 16, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int64_t j = 0; j < 16; ++j) most[j] = x[i + j] > most[j] ? x[i + j] : most[j];
  }
  for (; i < n; ++i) most[0] = x[i] > most[0] ? x[i] : most[0];
  return *std::max_element(most, most + 16);
}

}  // namespace

void softmax_row(float* x, int64_t n) {
  const float sum = exponentials(x, largest_of(x, n), n);
  if (sum > 0) return scale(x, 1.0f / sum, n);
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] != x[i] ? 1.0f : 0.0f;
}

base::Result<std::optional<SelectionOptions>> selection_named(const std::string& text) {
  if (text == "dense") return std::nullopt;
  SelectionOptions options;
  if (text == "dsa") return options;
  const auto refused = [&] { return base::refuse("attention '{}' is unknown; use dense, dsa, dsa:top_p=0.95, dsa:ratio=0.4 or dsa:top_k=2048", text); };
  const size_t colon = text.find(':'), equals = text.find('=');
  if (text.substr(0, colon) != "dsa" || equals == std::string::npos || equals < colon) return refused();
  const std::string mode = text.substr(colon + 1, equals - colon - 1);
  const char *from = text.data() + equals + 1, *end = text.data() + text.size();
  double value = 0;
  if (const auto [stop, error] = std::from_chars(from, end, value); error != std::errc() || stop != end) return refused();
  if (mode == "top_k") {
    if (!(value >= 1 && value <= 1e9 && value == std::floor(value))) return base::refuse("attention '{}': a number of keys is a whole number from 1", text);
    options.mode = SelectionOptions::Mode::kTopK;
    options.top_k = static_cast<int64_t>(value);
    return options;
  }
  if (mode != "ratio" && mode != "top_p") return refused();
  if (!(value > 0 && value <= 1)) return base::refuse("attention '{}': a share lies above 0, up to 1", text);
  options.mode = mode == "ratio" ? SelectionOptions::Mode::kRatio : SelectionOptions::Mode::kTopP;
  (mode == "ratio" ? options.ratio : options.top_p) = static_cast<float>(value);
  return options;
}

HeadSelections head_selections(std::span<const std::optional<SelectionOptions>> heads) {
  HeadSelections out;
  if (std::none_of(heads.begin(), heads.end(), [](const auto& head) { return head.has_value(); })) return out;
  for (const auto& head : heads) out.push_back(head.value_or(SelectionOptions::all()));
  return out;
}

TileBudget budget_of(const SelectionOptions& o, int64_t tiles, int64_t always, float mass_of_always) {
  const int64_t rest = tiles - always;
  const auto count = [&](int64_t wanted) { return std::clamp<int64_t>(wanted - always, 0, rest); };
  const auto share = [&](float ratio) { return static_cast<int64_t>(std::ceil(static_cast<double>(ratio) * static_cast<double>(tiles))); };
  const auto tiles_of = [](int64_t keys) { return (keys + kKeyTile - 1) / kKeyTile; };
  if (o.mode == SelectionOptions::Mode::kTopP) return {count(tiles_of(o.least)), count(share(o.most)), o.top_p - mass_of_always};
  const int64_t fixed = count(o.mode == SelectionOptions::Mode::kRatio ? share(o.ratio) : tiles_of(o.top_k));
  return {fixed, fixed, 0};
}

std::span<const int32_t> TileSelection::choose(std::span<const float> importance, const TileBudget& budget) {
  const auto n = static_cast<int64_t>(importance.size()), most = std::clamp<int64_t>(budget.most, 0, n), least = std::clamp<int64_t>(budget.least, 0, most);
  if (chosen_.size() < importance.size()) chosen_.resize(std::bit_ceil(importance.size()));
  const float* x = importance.data();
  Bracket bracket(x, n, least, most, budget.mass);
  bracket.close();
  // One that is left between low and high is taken; of equal ones those before an index.
  int64_t end = bracket.left() == 0 ? 0 : n;
  if (bracket.left() > 1) {
    Held held = bracket.at_high();
    double mass = held.mass;
    for (end = 0; end < n && !bracket.enough(held); ++end) {
      if (order_of(x[end]) < bracket.low() || order_of(x[end]) >= bracket.high()) continue;
      ++held.count;
      held.mass = static_cast<float>(mass += x[end]);
    }
  }
  size_t out = 0;
  const auto take = [&](int64_t from, int64_t to, int64_t least_order) {
    for (int64_t i = from; i < to; ++i) {
      chosen_[out] = static_cast<int32_t>(i);
      out += order_of(x[i]) >= least_order ? 1 : 0;
    }
  };
  take(0, end, bracket.low());
  take(end, n, bracket.high());
  return std::span(chosen_).first(out);
}

}  // namespace deepseek::kernels
