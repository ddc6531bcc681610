#include "explain/coalition_process.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cholesky_inverse.h>
#include <ATen/ops/cholesky_solve.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "explain/coalition_functionals.h"

namespace deepseek::explain {
namespace {

constexpr int kSteps = 50;           // of Adam on the likelihood; what is left by then is far below the deviations
constexpr double kWider = 1.08;      // the parameters are uncertain too: 95% of the values of trees and nets on real data then lie within 95% intervals
constexpr double kLevel = 100;       // variance of the even half's mean, of which nothing is known
constexpr size_t kAtATime = 128;     // values; bounds the memory
constexpr double kLeastPart = 1e-8;  // of the part without order: keeps the matrix positive

struct Parameters {
  std::vector<double> length;  // l_i of each player
  double part = 1e-3;          // variance of the part without order, where the rest has 1
};

at::Tensor vector_of(const std::vector<double>& x) { return at::tensor(x, at::kDouble); }

// Which half of the game: u(S) = (v(S) - v(complement)) / 2 carries the values, (v(S) + v(complement)) / 2 the interactions of pairs.
enum class Half { kOdd, kEven };

// Coalitions as rows of -1 and 1, and what the parameters make of them.
class Process {
 public:
  Process(Half half, at::Tensor signs, at::Tensor y) : sign_(half == Half::kOdd ? -1 : 1), s_(std::move(signs)), y_(std::move(y)), count_(s_.size(0)) {}

  // exp(-distance) of every two coalitions and of each with the other's complement, and the variance of this half of the game.
  void set(const Parameters& p) {
    length_ = vector_of(p.length);
    part_ = p.part;
    whole_ = length_.sum().item<double>();
    const at::Tensor differ = (whole_ - at::matmul(s_ * length_, s_.t())) / 2;
    near_ = (-differ).exp();
    far_ = (differ - whole_).exp();
    scale_ = (1 + sign_ * std::exp(-whole_)) / 2;
    k_ = (near_ + sign_ * far_) / (2 * scale_) + part_ * at::eye(count_, at::kDouble);
    if (sign_ > 0) k_ += kLevel;
  }

  // False where the matrix is not positive in f64.
  bool factor() {
    at::Tensor info;
    std::tie(factor_, info) = at::linalg_cholesky_ex(k_);
    if (info.item<int>() != 0) return false;
    alpha_ = at::cholesky_solve(y_.unsqueeze(1), factor_).squeeze(1);
    square_ = at::dot(y_, alpha_).item<double>();
    return std::isfinite(square_) && square_ > 0;
  }

  // Log-likelihood with the scale at its best.
  double likelihood() const {
    return -0.5 * static_cast<double>(count_) * std::log(square_ / static_cast<double>(count_)) - factor_.diagonal().log().sum().item<double>();
  }

  // Its gradient by the logarithms of the lengths [n] and of the part.
  std::pair<at::Tensor, double> gradient() const {
    const at::Tensor g = 0.5 * (at::outer(alpha_, alpha_) * (static_cast<double>(count_) / square_) - at::cholesky_inverse(factor_));
    const at::Tensor near = g * near_, far = g * far_;
    const at::Tensor agree = (s_ * at::matmul(near - sign_ * far, s_)).sum(0);
    const double all = (near + sign_ * far).sum().item<double>();
    // d scale / d l = -sign exp(-whole) / 2 for every l.
    const double of_scale = -sign_ * all * std::exp(-whole_) / (4 * scale_ * scale_);
    return {length_ * ((agree - all) / (4 * scale_) - of_scale), part_ * g.trace().item<double>()};
  }

  // Means and variances, in units of the scale, of linear functionals of the game.
  [[nodiscard]] std::pair<at::Tensor, at::Tensor> values(const std::vector<CoalitionFunctionals::Weights>& weights, const std::vector<CoalitionFunctionals::Variances>& before) const {
    std::vector<at::Tensor> covariance;
    std::vector<double> prior;
    for (const auto& w : weights) covariance.push_back(w.cross / scale_ + part_ * w.own);
    for (const auto& v : before) prior.push_back(v.smooth / scale_ + part_ * v.own);
    const at::Tensor c = at::stack(covariance, 1), solved = at::linalg_solve_triangular(factor_, c, false);
    return {at::mv(c.t(), alpha_), (at::tensor(prior, at::kDouble) - solved.square().sum(0)).clamp_min(0)};
  }
  [[nodiscard]] double square() const { return square_; }
  // Mean square of what is left at each coalition when the others foretell it, in units of its deviation there (Rasmussen and Williams 2006, 5.12).
  [[nodiscard]] double left_out() const { return (alpha_.square() / at::cholesky_inverse(factor_).diagonal()).mean().item<double>(); }

 private:
  double sign_;
  at::Tensor s_, y_;
  int64_t count_;
  at::Tensor length_;
  double part_ = 0, whole_ = 0, scale_ = 1, square_ = 0;
  at::Tensor near_, far_, k_, factor_, alpha_;
};

// Log-lengths are normal around their mean, which is nearly free: a player that never mattered does not wander off, and a game may be additive.
struct Prior {
  double centre, of_mean = 1.0 / 16, of_each = 1.0 / 3;  // precisions

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

// Maximises the likelihood by Adam in the logarithms.
Parameters learned(Process& process, int64_t n) {
  const Prior prior{std::log(2 * std::min(0.1, 1.4 / static_cast<double>(n)))};
  Parameters p{.length = std::vector<double>(static_cast<size_t>(n), std::exp(prior.centre))}, best = p;
  double most = -std::numeric_limits<double>::infinity();
  const auto count = static_cast<size_t>(n) + 1;
  std::vector<double> first(count), second(count);
  for (int step = 1; step <= kSteps; ++step) {
    process.set(p);
    if (!process.factor()) {
      p.part *= 4;
      continue;
    }
    const double value = process.likelihood() + prior.logarithm(p.length), mean = Prior::mean_of(p.length);
    if (value > most) most = value, best = p;
    const auto [lengths, part] = process.gradient();
    for (size_t i = 0; i < count; ++i) {
      double& x = i + 1 < count ? p.length[i] : p.part;
      const double g = i + 1 < count ? lengths.data_ptr<double>()[i] + prior.slope(x, mean, p.length.size()) : part;
      first[i] = 0.8 * first[i] + 0.2 * g;
      second[i] = 0.95 * second[i] + 0.05 * g * g;
      const double rate = 0.25 * first[i] / (1 - std::pow(0.8, step)) / std::sqrt(second[i] / (1 - std::pow(0.95, step)) + 1e-12);
      x = i + 1 < count ? std::clamp(x * std::exp(rate), 1e-6, 4.2) : std::clamp(x * std::exp(rate), kLeastPart, 10.0);
    }
  }
  return best;
}

at::Tensor signs_of(std::span<const uint8_t> coalitions, int64_t n) {
  at::Tensor signs = at::empty({static_cast<int64_t>(coalitions.size()) / n, n}, at::kDouble);
  double* to = signs.data_ptr<double>();
  for (size_t i = 0; i < coalitions.size(); ++i) to[i] = coalitions[i] != 0 ? 1 : -1;
  return signs;
}

// Of count rows, `wanted` spread evenly, the first among them.
at::Tensor spread(int64_t count, int64_t wanted) { return (at::arange(std::min(count, wanted), at::kLong) * count).div(std::min(count, wanted), "floor"); }

// One thread for matrices that are too small for more.
class FewThreads {
 public:
  explicit FewThreads(int64_t points) : before_(at::get_num_threads()) {
    if (points <= kLearningPoints) at::set_num_threads(1);
  }
  ~FewThreads() { at::set_num_threads(before_); }
  FewThreads(const FewThreads&) = delete;
  FewThreads& operator=(const FewThreads&) = delete;

 private:
  int before_;
};

Parameters learned_from(Half half, const at::Tensor& signs, const at::Tensor& y) {
  const at::Tensor chosen = spread(y.size(0), kLearningPoints);
  const FewThreads threads(chosen.size(0));
  Process learning(half, signs.index_select(0, chosen), y.index_select(0, chosen));
  return learned(learning, signs.size(1));
}

// Means and variances of the functionals whose weights and variances `weights_of(functionals, i)` and `variances_of(functionals, i)` give, by a half of the game.
template <typename WeightsOf, typename VariancesOf>
std::pair<std::vector<double>, std::vector<double>> fitted(Half half, const at::Tensor& signs, const FeatureTree& tree, const at::Tensor& y, Parameters p, size_t wanted,
                                                           const WeightsOf& weights_of, const VariancesOf& variances_of) {
  const int64_t count = y.size(0), parts = (count + kMostPoints - 1) / kMostPoints;
  const FewThreads threads(count);
  std::vector<double> mean(wanted), variance(wanted);
  for (int64_t part = 0; part < parts; ++part) {
    const at::Tensor rows = at::arange(part, count, parts, at::kLong), some = signs.index_select(0, rows);
    Process process(half, some, y.index_select(0, rows));
    for (process.set(p); !process.factor(); process.set(p)) p.part *= 4;
    const auto points = static_cast<double>(rows.size(0)), players = static_cast<double>(signs.size(1)), all = static_cast<double>(parts);
    const double scale = std::max(process.left_out() * points, process.square()) / std::max(points - players, points / 3);
    const CoalitionFunctionals functionals(tree, some, p.length);
    for (size_t first = 0; first < wanted; first += kAtATime) {
      std::vector<CoalitionFunctionals::Weights> weights;
      std::vector<CoalitionFunctionals::Variances> before;
      for (size_t i = first; i < std::min(wanted, first + kAtATime); ++i) weights.push_back(weights_of(functionals, i)), before.push_back(variances_of(functionals, i));
      const auto [m, v] = process.values(weights, before);
      for (size_t i = 0; i < weights.size(); ++i) {
        mean[first + i] += m.template const_data_ptr<double>()[i] / all;
        variance[first + i] += v.template const_data_ptr<double>()[i] * scale / (all * all);
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
  double sum = 0;
  for (const double value : x) sum += value * value;
  return std::sqrt(sum / static_cast<double>(x.size()));
}

at::Tensor tensor_of(std::span<const double> x) { return at::tensor(at::ArrayRef<double>(x.data(), x.size()), at::kDouble); }

}  // namespace

double degrees_of_freedom(size_t coalitions, int64_t players) { return std::max(1.0, (static_cast<double>(coalitions) - static_cast<double>(players)) / 2); }

CoalitionPosterior coalition_posterior(std::span<const uint8_t> coalitions, const FeatureTree& tree, std::span<const double> odd) {
  const size_t nodes = tree.nodes.size();
  CoalitionPosterior result{std::vector<double>(nodes), std::vector<double>(nodes)};
  const double unit = rms(odd);
  if (unit == 0) return result;  // the odd part is 0 wherever it was asked
  const at::Tensor signs = signs_of(coalitions, tree.feature_count()), y = tensor_of(odd) / unit;
  const auto [mean, variance] = fitted(
      Half::kOdd, signs, tree, y, learned_from(Half::kOdd, signs, y), nodes, [](const auto& functionals, size_t n) { return functionals.of(static_cast<int32_t>(n)); },
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
  const at::Tensor signs = signs_of(coalitions, tree.feature_count()), y = tensor_of(centred) / unit;
  const Parameters p = learned_from(Half::kEven, signs, y);
  std::vector<PairPosterior> pairs = candidates(tree, p.length);
  const auto [mean, variance] = fitted(
      Half::kEven, signs, tree, y, p, pairs.size(), [&](const auto& functionals, size_t i) { return functionals.of(pairs[i].first, pairs[i].second, index); },
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
