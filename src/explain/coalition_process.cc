#include "explain/coalition_process.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "explain/coalition_functionals.h"
#include "explain/positive_matrix.h"
#include "explain/vectors.h"

namespace deepseek::explain {
namespace {

// Steps of Adam on the likelihood; what is left after them is far below the deviations.
struct Climb {
  size_t points;  // coalitions at most
  int steps;
  double rate;
};
constexpr Climb kFar{96, 30, 0.3}, kNear{320, 9, 0.15};
constexpr double kWider = 1.08;      // the parameters are uncertain too: 95% of the values of trees and nets on real data then lie within 95% intervals
constexpr double kLevel = 100;       // variance of the even half's mean, of which nothing is known
constexpr size_t kAtATime = 128;     // values; bounds the memory
constexpr double kLeastPart = 1e-8;  // of the part without order: keeps the matrix positive

struct Parameters {
  std::vector<double> length;  // l_i of each player
  double part = 1e-3;          // variance of the part without order, where the rest has 1
};

// Which half of the game: u(S) = (v(S) - v(complement)) / 2 carries the values, (v(S) + v(complement)) / 2 the interactions of pairs.
enum class Half { kOdd, kEven };

// From a row's agreement a[j] = sum over players of l s_i s_j: exp(-distance) of two coalitions, and of one and the other's complement.
EXPLAIN_CLONES void covariances(const double* a, double whole, double* near, double* far, size_t from, size_t stride) {
  for (size_t j = from & ~size_t{7}; j < stride; j += 8) {
    at(near + j) = exponential((at(a + j) - whole) / 2);
    at(far + j) = exponential((at(a + j) + whole) / -2);
  }
}

EXPLAIN_CLONES void add_scaled(double* to, double factor, const double* x, size_t from, size_t stride) {
  for (size_t j = from & ~size_t{7}; j < stride; j += 8) at(to + j) += factor * at(x + j);
}

EXPLAIN_CLONES void combine(double* to, const double* near, double sign, const double* far, double factor, size_t from, size_t stride) {
  for (size_t j = from & ~size_t{7}; j < stride; j += 8) at(to + j) = (at(near + j) + sign * at(far + j)) * factor;
}

EXPLAIN_CLONES double dot(const double* x, const double* y, size_t from, size_t stride) {
  Doubles sum = splat(0);
  for (size_t j = from & ~size_t{7}; j < stride; j += 8) sum += at(x + j) * at(y + j);
  return sum_of(sum);
}

// One row of the gradient: the likelihood's by the covariances is g[j], times 2 off the diagonal, 0 below it. Gives g (near - sign far) and adds g (near + sign far).
EXPLAIN_CLONES double row_gradient(const double* inverse, const double* alpha, double mine, double sign, const double* near, const double* far, double* apart, size_t i, size_t count, size_t stride) {
  Doubles all = splat(0);
  const Bits places = {0, 1, 2, 3, 4, 5, 6, 7};
  for (size_t j = i & ~size_t{7}; j < stride; j += 8) {
    const Bits place = places + static_cast<int64_t>(j);
    const Bits above = (place > static_cast<int64_t>(i)) & (place < static_cast<int64_t>(count)), diagonal = place == static_cast<int64_t>(i);
    const Doubles times = above ? splat(1) : diagonal ? splat(0.5) : splat(0);
    const Doubles g = times * (mine * at(alpha + j) - at(inverse + j));
    const Doubles n = g * at(near + j), f = sign * g * at(far + j);
    at(apart + j) = n - f;
    all += n + f;
  }
  return sum_of(all);
}

// Coalitions as columns of -1 and 1, and what the parameters make of them.
class Process {
 public:
  /// signs [players, count]; y [count].
  Process(Half half, Matrix signs, std::vector<double> y)
      : sign_(half == Half::kOdd ? -1 : 1), s_(std::move(signs)), y_(std::move(y)), count_(s_.columns), near_(count_, count_), far_(count_, count_), k_(count_, count_) {}

  // Covariances of every two coalitions and of each with the other's complement; false where their matrix is not positive in f64. A half that is 0 at all of
  // them has a square() of 0 and no likelihood.
  bool set(const Parameters& p) {
    length_ = p.length;
    part_ = p.part;
    whole_ = 0;
    for (const double l : length_) whole_ += l;
    scale_ = (1 + sign_ * std::exp(-whole_)) / 2;
    std::vector<double> agree(s_.stride);
    for (size_t i = 0; i < count_; ++i) {
      const size_t from = i & ~size_t{7};
      std::fill(agree.begin() + static_cast<int64_t>(from), agree.end(), 0.0);
      for (size_t k = 0; k < s_.rows; ++k) add_scaled(agree.data(), length_[k] * s_.row(k)[i], s_.row(k), i, near_.stride);
      covariances(agree.data(), whole_, near_.row(i), far_.row(i), i, near_.stride);
      combine(k_.row(i), near_.row(i), sign_, far_.row(i), 1 / (2 * scale_), i, near_.stride);
      if (sign_ > 0) {
        for (size_t j = i; j < count_; ++j) k_.row(i)[j] += kLevel;
      }
      k_.row(i)[i] += part_;
      std::fill(k_.row(i) + count_, k_.row(i) + k_.stride, 0.0);
    }
    if (!factor(k_)) return false;
    alpha_ = y_;
    alpha_.resize(k_.stride);
    solve(k_, alpha_);
    square_ = 0;
    for (size_t i = 0; i < count_; ++i) square_ += y_[i] * alpha_[i];
    return std::isfinite(square_) && square_ >= 0;
  }

  // Log-likelihood with the scale at its best.
  [[nodiscard]] double likelihood() const {
    double logs = 0;
    for (size_t i = 0; i < count_; ++i) logs += std::log(k_.row(i)[i]);
    return -0.5 * static_cast<double>(count_) * std::log(square_ / static_cast<double>(count_)) - logs;
  }

  // Its gradient by the logarithms of the lengths [n] and, last, of the part.
  [[nodiscard]] std::vector<double> gradient() const {
    const Matrix inverted = inverse(inverse_of_factor(k_));
    std::vector<double> apart(k_.stride), agree(length_.size());
    double all = 0, trace = 0;
    for (size_t i = 0; i < count_; ++i) {
      const double mine = alpha_[i] * static_cast<double>(count_) / square_;
      all += row_gradient(inverted.row(i), alpha_.data(), mine, sign_, near_.row(i), far_.row(i), apart.data(), i, count_, k_.stride);
      for (size_t k = 0; k < agree.size(); ++k) agree[k] += s_.row(k)[i] * dot(s_.row(k), apart.data(), i, k_.stride);
      trace += 0.5 * (mine * alpha_[i] - inverted.row(i)[i]);
    }
    // d scale / d l = -sign exp(-whole) / 2 for every l.
    const double of_scale = -sign_ * all * std::exp(-whole_) / (4 * scale_ * scale_);
    std::vector<double> result;
    for (size_t k = 0; k < agree.size(); ++k) result.push_back(length_[k] * ((agree[k] - all) / (4 * scale_) - of_scale));
    result.push_back(part_ * trace);
    return result;
  }

  // Means and variances, in units of the scale, of linear functionals of the game.
  [[nodiscard]] std::pair<std::vector<double>, std::vector<double>> values(const std::vector<CoalitionFunctionals::Weights>& weights, const std::vector<CoalitionFunctionals::Variances>& before) const {
    Matrix c(count_, weights.size());
    std::vector<double> mean(weights.size()), variance;
    for (size_t i = 0; i < weights.size(); ++i) {
      for (size_t s = 0; s < count_; ++s) {
        const double x = c.row(s)[i] = weights[i].cross[s] / scale_ + part_ * weights[i].own[s];
        mean[i] += x * alpha_[s];
      }
    }
    solve_lower(k_, c);
    for (size_t i = 0; i < weights.size(); ++i) {
      double known = 0;
      for (size_t s = 0; s < count_; ++s) known += c.row(s)[i] * c.row(s)[i];
      variance.push_back(std::max(0.0, before[i].smooth / scale_ + part_ * before[i].own - known));
    }
    return {mean, variance};
  }
  [[nodiscard]] double square() const { return square_; }
  // Mean square of what is left at each coalition when the others foretell it, in units of its deviation there (Rasmussen and Williams 2006, 5.12).
  [[nodiscard]] double left_out() const {
    const auto diagonal = inverse_diagonal(inverse_of_factor(k_));
    double sum = 0;
    for (size_t i = 0; i < count_; ++i) sum += alpha_[i] * alpha_[i] / diagonal[i];
    return sum / static_cast<double>(count_);
  }

 private:
  double sign_;
  Matrix s_;
  std::vector<double> y_;
  size_t count_;
  Matrix near_, far_, k_;
  std::vector<double> length_, alpha_;
  double part_ = 0, whole_ = 0, scale_ = 1, square_ = 0;
};

// Log-lengths are normal around their mean, which is nearly free: a player that never mattered does not wander off, and a game may be additive.
struct Prior {
  double centre, of_mean = 1.0 / 16, of_each = 1.0 / 3;  // precisions

  explicit Prior(size_t n) : centre(std::log(2 * std::min(0.1, 1.4 / static_cast<double>(n)))) {}

  static double mean_of(const std::vector<double>& lengths) {
    double sum = 0;
    for (const double l : lengths) sum += std::log(l);
    return sum / static_cast<double>(lengths.size());
  }
  [[nodiscard]] double logarithm(const std::vector<double>& lengths) const {
    const double mean = mean_of(lengths);
    double value = -0.5 * of_mean * (mean - centre) * (mean - centre);
    for (const double l : lengths) value -= 0.5 * of_each * (std::log(l) - mean) * (std::log(l) - mean);
    return value;
  }
  // By the logarithm of one length.
  [[nodiscard]] double slope(double length, double mean, size_t count) const { return -of_each * (std::log(length) - mean) - of_mean * (mean - centre) / static_cast<double>(count); }
};

// Where to begin: as if nothing had been asked.
Parameters unlearned(size_t n) { return {.length = std::vector<double>(n, std::exp(Prior(n).centre))}; }

// Climbs the likelihood by Adam in the logarithms; gives the best that it saw.
Parameters climbed(Process& process, Parameters p, const Climb& climb) {
  const Prior prior(p.length.size());
  Parameters best = p;
  double most = -std::numeric_limits<double>::infinity();
  const size_t count = p.length.size() + 1;
  std::vector<double> first(count), second(count);
  for (int step = 1; step <= climb.steps; ++step) {
    if (!process.set(p)) {
      p.part *= 4;
      continue;
    }
    if (process.square() == 0) break;
    const double value = process.likelihood() + prior.logarithm(p.length), mean = Prior::mean_of(p.length);
    if (value > most) most = value, best = p;
    if (step == climb.steps) break;
    const std::vector<double> gradient = process.gradient();
    for (size_t i = 0; i < count; ++i) {
      double& x = i + 1 < count ? p.length[i] : p.part;
      const double g = gradient[i] + (i + 1 < count ? prior.slope(x, mean, p.length.size()) : 0);
      first[i] = 0.8 * first[i] + 0.2 * g;
      second[i] = 0.95 * second[i] + 0.05 * g * g;
      const double move = climb.rate * first[i] / (1 - std::pow(0.8, step)) / std::sqrt(second[i] / (1 - std::pow(0.95, step)) + 1e-12);
      x = i + 1 < count ? std::clamp(x * std::exp(move), 1e-6, 4.2) : std::clamp(x * std::exp(move), kLeastPart, 10.0);
    }
  }
  return best;
}

// Every `step`-th coalition from `first` on, `most` of them, as columns of -1 and 1; and what is known of them.
struct Known {
  Matrix signs;
  std::vector<double> y;

  Known(std::span<const uint8_t> coalitions, std::span<const double> all, size_t n, std::span<const size_t> rows) : signs(n, rows.size()) {
    for (size_t r = 0; r < rows.size(); ++r) {
      for (size_t k = 0; k < n; ++k) signs.row(k)[r] = coalitions[rows[r] * n + k] != 0 ? 1 : -1;
      y.push_back(all[rows[r]]);
    }
  }
};

// The parameters: many steps over few coalitions, then few over many, all spread evenly over those that were asked.
Parameters learned_from(Half half, std::span<const uint8_t> coalitions, std::span<const double> y, size_t n) {
  Parameters p = unlearned(n);
  size_t before = 0;
  for (const Climb& climb : {kFar, kNear}) {
    const size_t wanted = std::min(y.size(), climb.points);
    if (wanted == before) break;
    before = wanted;
    std::vector<size_t> rows;
    for (size_t i = 0; i < wanted; ++i) rows.push_back(i * y.size() / wanted);
    Known known(coalitions, y, n, rows);
    Process process(half, std::move(known.signs), std::move(known.y));
    p = climbed(process, std::move(p), climb);
  }
  return p;
}

// Means and variances of the functionals whose weights and variances `weights_of(functionals, i)` and `variances_of(functionals, i)` give, by a half of the game.
template <typename WeightsOf, typename VariancesOf>
std::pair<std::vector<double>, std::vector<double>> fitted(Half half, std::span<const uint8_t> coalitions, std::span<const double> y, const FeatureTree& tree, Parameters p, size_t wanted,
                                                           const WeightsOf& weights_of, const VariancesOf& variances_of) {
  const size_t n = p.length.size(), count = y.size(), parts = (count + kMostPoints - 1) / kMostPoints;
  std::vector<double> mean(wanted), variance(wanted);
  for (size_t part = 0; part < parts; ++part) {
    std::vector<size_t> rows;
    for (size_t r = part; r < count; r += parts) rows.push_back(r);
    const Known known(coalitions, y, n, rows);
    Process process(half, known.signs, known.y);
    while (!process.set(p)) p.part *= 4;
    const auto points = static_cast<double>(rows.size()), players = static_cast<double>(n), all = static_cast<double>(parts);
    const double scale = std::max(process.left_out() * points, process.square()) / std::max(points - players, points / 3);
    const CoalitionFunctionals functionals(tree, known.signs, p.length);
    for (size_t first = 0; first < wanted; first += kAtATime) {
      std::vector<CoalitionFunctionals::Weights> weights;
      std::vector<CoalitionFunctionals::Variances> before;
      for (size_t i = first; i < std::min(wanted, first + kAtATime); ++i) weights.push_back(weights_of(functionals, i)), before.push_back(variances_of(functionals, i));
      const auto [m, v] = process.values(weights, before);
      for (size_t i = 0; i < weights.size(); ++i) {
        mean[first + i] += m[i] / all;
        variance[first + i] += v[i] * scale / (all * all);
      }
    }
  }
  return {mean, variance};
}

// Siblings, and features that interact with others by their lengths.
std::vector<PairPosterior> candidates(const FeatureTree& tree, const std::vector<double>& length) {
  std::vector<int32_t> leaves = tree.leaves();
  std::sort(leaves.begin(), leaves.end());
  const auto reach = [&](int32_t leaf) { return length[static_cast<size_t>(tree.nodes[static_cast<size_t>(leaf)].feature)]; };
  std::stable_sort(leaves.begin(), leaves.end(), [&](int32_t a, int32_t b) { return reach(a) > reach(b); });
  leaves.resize(std::min(leaves.size(), kMostInteracting));
  std::set<std::pair<int32_t, int32_t>> pairs;
  for (const int32_t a : leaves) {
    for (const int32_t b : leaves) {
      if (a < b) pairs.emplace(a, b);
    }
  }
  for (const FeatureNode& parent : tree.nodes) {
    if (parent.children.size() > kMostInteracting) continue;  // of so many, those that interact are features among the chosen
    for (const int32_t a : parent.children) {
      for (const int32_t b : parent.children) {
        if (a < b) pairs.emplace(a, b);
      }
    }
  }
  std::vector<PairPosterior> found;
  for (const auto& [a, b] : pairs) found.push_back({a, b});
  return found;
}

// Values are made to add up exactly: what a node's children miss of its value goes to the least certain of them.
void close_gaps(const FeatureTree& tree, std::vector<double>& mean, const std::vector<double>& variance) {
  for (size_t n = 0; n < tree.nodes.size(); ++n) {
    double gap = mean[n], sum = 0;
    for (const int32_t c : tree.nodes[n].children) gap -= mean[static_cast<size_t>(c)], sum += variance[static_cast<size_t>(c)] + 1e-30;
    for (const int32_t c : tree.nodes[n].children) mean[static_cast<size_t>(c)] += gap * (variance[static_cast<size_t>(c)] + 1e-30) / sum;
  }
}

double rms(std::span<const double> x) {
  double sum = 0, most = 0;
  for (const double value : x) sum += value * value, most = std::max(most, std::abs(value));
  if (most == 0) return 0;
  if (sum > 1e-280 && std::isfinite(sum)) return std::sqrt(sum / static_cast<double>(x.size()));
  sum = 0;  // beyond the range of squares
  for (const double value : x) sum += (value / most) * (value / most);
  return most * std::sqrt(sum / static_cast<double>(x.size()));
}

}  // namespace

double degrees_of_freedom(size_t coalitions, int64_t players) { return std::max(1.0, (static_cast<double>(coalitions) - static_cast<double>(players)) / 2); }

CoalitionPosterior coalition_posterior(std::span<const uint8_t> coalitions, const FeatureTree& tree, std::span<const double> odd) {
  const size_t nodes = tree.nodes.size();
  CoalitionPosterior result{std::vector<double>(nodes), std::vector<double>(nodes)};
  const double unit = rms(odd);
  if (unit == 0) return result;  // the odd part is 0 wherever it was asked
  std::vector<double> y(odd.begin(), odd.end());
  for (double& x : y) x /= unit;
  const auto [mean, variance] = fitted(
      Half::kOdd, coalitions, y, tree, learned_from(Half::kOdd, coalitions, y, static_cast<size_t>(tree.feature_count())), nodes, [](const auto& functionals, size_t n) { return functionals.of(static_cast<int32_t>(n)); },
      [](const auto& functionals, size_t n) { return functionals.variance_of(static_cast<int32_t>(n)); });
  for (size_t n = 0; n < nodes; ++n) result.mean[n] = unit * mean[n];
  result.mean[0] = 2 * odd[0];  // the first coalition holds all players
  close_gaps(tree, result.mean, variance);
  for (size_t n = 1; n < nodes; ++n) result.deviation[n] = kWider * unit * std::sqrt(variance[n]);
  return result;
}

std::vector<PairPosterior> strongest_interactions(std::span<const uint8_t> coalitions, const FeatureTree& tree, std::span<const double> even, int64_t wanted, InteractionIndex index) {
  double middle = 0;
  for (const double value : even) middle += value / static_cast<double>(even.size());
  std::vector<double> centred(even.begin(), even.end());
  for (double& value : centred) value -= middle;
  const double unit = rms(centred);
  if (unit <= 1e-13 * std::abs(middle)) return {};  // the model adds up
  for (double& value : centred) value /= unit;
  const Parameters p = learned_from(Half::kEven, coalitions, centred, static_cast<size_t>(tree.feature_count()));
  std::vector<PairPosterior> pairs = candidates(tree, p.length);
  const auto [mean, variance] = fitted(
      Half::kEven, coalitions, centred, tree, p, pairs.size(), [&](const auto& functionals, size_t i) { return functionals.of(pairs[i].first, pairs[i].second, index); },
      [&](const auto& functionals, size_t i) { return functionals.variance_of(pairs[i].first, pairs[i].second, index); });
  for (size_t i = 0; i < pairs.size(); ++i) {
    pairs[i].mean = unit * mean[i];
    pairs[i].deviation = kWider * unit * std::sqrt(variance[i]);
  }
  std::stable_sort(pairs.begin(), pairs.end(), [](const auto& a, const auto& b) { return std::abs(a.mean) > std::abs(b.mean); });
  pairs.resize(std::min(pairs.size(), static_cast<size_t>(wanted)));
  return pairs;
}

}  // namespace deepseek::explain
