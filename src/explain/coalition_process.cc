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
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "explain/exact.h"
#include "explain/tree_shap/quadrature.h"

namespace deepseek::explain {
namespace {

constexpr int kSteps = 50;           // of Adam on the likelihood; what is left by then is far below the deviations
constexpr double kWider = 1.08;      // the parameters are uncertain too: 95% of the values of trees and nets on real data then lie within 95% intervals
constexpr double kLeastPart = 1e-8;  // of the part without order: keeps the matrix positive

struct Parameters {
  std::vector<double> length;  // l_i of each player
  double part = 1e-3;          // variance of the part without order, where the rest has 1
};

// Of the part without order: 2 shapley_weight(size - 1, n) of a pair's u is in the values of the players that its coalition of `size` holds.
double pair_share(int64_t size, int64_t n) { return 2 * shapley_weight(size - 1, n); }

// Enough for a polynomial of n - 1 players' factors, up to the largest there is.
const Quadrature& nodes_for(int64_t n) { return quadrature(static_cast<int>(std::min<int64_t>(n / 2 + 1, kMostPathFeatures / 2))); }

at::Tensor vector_of(const std::vector<double>& x) { return at::tensor(x, at::kDouble); }

// Coalitions as rows of -1 and 1, and what the parameters make of them.
class Process {
 public:
  Process(at::Tensor signs, at::Tensor y) : s_(std::move(signs)), y_(std::move(y)), count_(s_.size(0)), n_(s_.size(1)) {}

  // exp(-distance) of every two coalitions and of each with the other's complement, and the variance of the odd part.
  void set(const Parameters& p) {
    length_ = vector_of(p.length);
    part_ = p.part;
    whole_ = length_.sum().item<double>();
    const at::Tensor differ = (whole_ - at::matmul(s_ * length_, s_.t())) / 2;
    near_ = (-differ).exp();
    far_ = (differ - whole_).exp();
    scale_ = (1 - std::exp(-whole_)) / 2;
    k_ = (near_ - far_) / (2 * scale_) + part_ * at::eye(count_, at::kDouble);
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
    const at::Tensor agree = (s_ * at::matmul(near + far, s_)).sum(0);
    const double all = (near - far).sum().item<double>();
    // d scale / d l = exp(-whole) / 2 for every l.
    const double of_scale = all * std::exp(-whole_) / (4 * scale_ * scale_);
    return {length_ * ((agree - all) / (4 * scale_) - of_scale), part_ * g.trace().item<double>()};
  }

  // Covariance of each player's value with each coalition's u, [n, count].
  at::Tensor cross() const {
    const at::Tensor a = (length_ / 2).tanh();
    at::Tensor sum = at::zeros({count_, n_}, at::kDouble);
    const Quadrature& nodes = nodes_for(n_);
    for (int q = 0; q < nodes.count; ++q) {
      const at::Tensor factors = (1 + a * s_ * (2 * nodes.at[q] - 1)) / (1 + a);
      sum += nodes.weight[q] * 2 * factors.log().sum(1, true).exp() / factors;
    }
    sum *= a / (1 + a) * s_ / scale_;
    // The part without order: a coalition's own share in its members' values, and its complement's in the others'.
    std::vector<double> share(static_cast<size_t>(n_ + 1));
    for (int64_t size = 1; size <= n_; ++size) share[static_cast<size_t>(size)] = pair_share(size, n_);
    const at::Tensor size = ((s_ + 1) / 2).sum(1, true).round().to(at::kLong), table = vector_of(share);
    const at::Tensor mine = table.index_select(0, size.squeeze(1)).unsqueeze(1), theirs = table.index_select(0, (n_ - size).squeeze(1)).unsqueeze(1);
    return (sum + part_ * at::where(s_ > 0, mine, -theirs)).t();
  }

  // Variance of each player's value before anything is known, [n].
  at::Tensor prior() const {
    const at::Tensor a = (length_ / 2).tanh();
    at::Tensor sum = at::zeros({n_}, at::kDouble);
    const Quadrature& nodes = nodes_for(n_);
    for (int q = 0; q < nodes.count; ++q) {
      for (int r = 0; r < nodes.count; ++r) {
        const at::Tensor factors = (1 + a * ((2 * nodes.at[q] - 1) * (2 * nodes.at[r] - 1))) / (1 + a);
        sum += nodes.weight[q] * nodes.weight[r] * 4 * factors.log().sum().exp() / factors;
      }
    }
    double shares = 0;
    for (int64_t size = 1; size <= n_; ++size) shares += 2 * pair_share(size, n_) / static_cast<double>(n_);  // choose(n - 1, size - 1) * c = 1 / n
    return sum * a / (1 + a) / scale_ + part_ * shares;
  }

  // Means [n] and variances [n] in units of the scale.
  std::pair<at::Tensor, at::Tensor> values() const {
    const at::Tensor c = cross(), solved = at::linalg_solve_triangular(factor_, c.t(), false);
    return {at::mv(c, alpha_), (prior() - solved.square().sum(0)).clamp_min(0)};
  }
  [[nodiscard]] double square() const { return square_; }
  // Mean square of what is left at each coalition when the others foretell it, in units of its deviation there (Rasmussen and Williams 2006, 5.12).
  [[nodiscard]] double left_out() const { return (alpha_.square() / at::cholesky_inverse(factor_).diagonal()).mean().item<double>(); }

 private:
  at::Tensor s_, y_;
  int64_t count_, n_;
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

}  // namespace

CoalitionPosterior coalition_posterior(std::span<const uint8_t> coalitions, int64_t n, std::span<const double> odd) {
  const auto count = static_cast<int64_t>(odd.size());
  const at::Tensor signs = signs_of(coalitions, n), u = at::tensor(at::ArrayRef<double>(odd.data(), odd.size()), at::kDouble);
  const double unit = u.square().mean().sqrt().item<double>();
  CoalitionPosterior result{std::vector<double>(static_cast<size_t>(n)), std::vector<double>(static_cast<size_t>(n)), std::max(1.0, static_cast<double>(count - n) / 2)};
  if (unit == 0) return result;  // the odd part is 0 wherever it was asked
  const at::Tensor y = u / unit, chosen = spread(count, kLearningPoints);
  Parameters p = [&] {
    const FewThreads threads(chosen.size(0));
    Process learning(signs.index_select(0, chosen), y.index_select(0, chosen));
    return learned(learning, n);
  }();
  const FewThreads threads(count);
  const int64_t parts = (count + kMostPoints - 1) / kMostPoints;
  at::Tensor mean = at::zeros({n}, at::kDouble), variance = mean.clone();
  for (int64_t part = 0; part < parts; ++part) {
    const at::Tensor rows = at::arange(part, count, parts, at::kLong);
    Process process(signs.index_select(0, rows), y.index_select(0, rows));
    process.set(p);
    while (!process.factor()) {
      p.part *= 4;
      process.set(p);
    }
    const auto [m, v] = process.values();
    mean += m / static_cast<double>(parts);
    const auto points = static_cast<double>(rows.size(0));
    variance += v * (std::max(process.left_out() * points, process.square()) / std::max(points - static_cast<double>(n), points / 3) / static_cast<double>(parts * parts));
  }
  // Parts that do not hold all players know the sum only roughly; it is exact from the first coalition.
  const double gap = (2 * u[0] / unit - mean.sum()).item<double>();
  const at::Tensor weight = variance + 1e-30;
  mean += gap * weight / weight.sum();
  const at::Tensor deviation = variance.sqrt();
  for (int64_t i = 0; i < n; ++i) {
    result.mean[static_cast<size_t>(i)] = unit * mean[i].item<double>();
    result.deviation[static_cast<size_t>(i)] = kWider * unit * deviation[i].item<double>();
  }
  return result;
}

}  // namespace deepseek::explain
