#include "explain/gradients.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"
#include "explain/intervals.h"
#include "explain/tree_shap/quadrature.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;

constexpr size_t kRowsAtATime = 4096;
constexpr int64_t kFewestPoints = 3;  // on a path: fewer do not tell how far they differ from a line

// Points between baselines and a row, and how much each feature moves there.
class Paths {
 public:
  Paths(const TableModel& model, std::span<const double> row, int64_t output) : model_(model), row_(row), output_(output) {}

  [[nodiscard]] double way(std::span<const double> baseline, size_t j) const {
    const bool category = j < model_.features.size() && !model_.features[j].categories.empty();
    const double way = row_[j] - baseline[j];
    return !category && std::isfinite(way) ? way : 0;
  }
  // The point at `at` of the path; where a feature does not move it is the row's.
  [[nodiscard]] double point(std::span<const double> baseline, size_t j, double at) const {
    const double moved = way(baseline, j);
    return moved == 0 ? row_[j] : baseline[j] + at * moved;
  }

  void add(std::span<const double> baseline, double at) {
    for (size_t j = 0; j < row_.size(); ++j) {
      points_.push_back(point(baseline, j, at));
      ways_.push_back(way(baseline, j));
    }
  }
  [[nodiscard]] size_t count() const { return points_.size() / row_.size(); }

  // Gradient times way of each point that was added, [count, features].
  Result<std::vector<double>> take() {
    auto gradients = model_.gradient(points_, output_);
    if (!gradients) return gradients;
    if (gradients->size() != points_.size()) return base::fail("the model gave {} gradients of {} values", gradients->size(), points_.size());
    for (size_t i = 0; i < points_.size(); ++i) (*gradients)[i] = ways_[i] == 0 ? 0 : (*gradients)[i] * ways_[i];
    points_.clear();
    ways_.clear();
    return gradients;
  }

 private:
  const TableModel& model_;
  std::span<const double> row_;
  int64_t output_;
  std::vector<double> points_, ways_;
};

Status check(const TableModel& model, std::span<const double> row, size_t others, int64_t output) {
  if (!model.gradient) return base::refuse("a model of the kind '{}' has no gradients; attribute by coalitions instead", model.kind);
  if (row.empty() || (!model.features.empty() && row.size() != model.features.size())) return base::refuse("a row of {} values does not fit {} features", row.size(), model.features.size());
  if (others == 0 || others % row.size() != 0) return base::refuse("{} values are not rows of {} features to compare with", others, row.size());
  if (output < 0 || output >= static_cast<int64_t>(model.outputs.size())) return base::refuse("there is no output {}; the model has {}", output, model.outputs.size());
  return {};
}

double sum_of(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

// The integral over a path in so many pieces, [features].
Result<std::vector<double>> integral(Paths& paths, std::span<const double> baseline, const Quadrature& nodes, int pieces) {
  std::vector<double> sums(baseline.size()), weights;
  const auto flush = [&]() -> Status {
    auto values = paths.take();
    if (!values) return base::pass(values);
    for (size_t i = 0; i < values->size(); ++i) sums[i % sums.size()] += weights[i / sums.size()] * (*values)[i];
    weights.clear();
    return {};
  };
  for (int p = 0; p < pieces; ++p) {
    for (int i = 0; i < nodes.count; ++i) {
      paths.add(baseline, (p + nodes.at[i]) / pieces);
      weights.push_back(nodes.weight[i] / pieces);
    }
    if (paths.count() < kRowsAtATime && p + 1 < pieces) continue;
    if (Status ok = flush(); !ok) return base::pass(ok);
  }
  return sums;
}

// ---- Expected gradients ----

// The rows and the points on each path that a budget allows.
struct Design {
  std::vector<size_t> rows;
  size_t points = 0;
  double share = 1;  // of the background

  Design(size_t count, int64_t samples, base::SplitMix64& draw) : rows(count) {
    std::iota(rows.begin(), rows.end(), size_t{0});
    points = static_cast<size_t>(std::max(kFewestPoints, samples / static_cast<int64_t>(count)));
    const size_t room = static_cast<size_t>(samples) / points;
    if (room >= count) return;
    for (size_t i = 0; i < room; ++i) std::swap(rows[i], rows[i + draw() % (count - i)]);
    rows.resize(room);
    share = static_cast<double>(room) / static_cast<double>(count);
  }
};

// Of one feature: sums over rows of the mean over the path, its square, the variance of that mean, and the square of that.
struct Sums {
  double mean = 0, squares = 0, variance = 0, variance_squares = 0;
};

// Values of one row's points, each in its part of the path; `stride` apart.
void add_row(const double* values, size_t points, size_t stride, Sums& sums) {
  const auto n = static_cast<double>(points);
  double mean = 0, bends = 0;
  for (size_t k = 0; k < points; ++k) mean += values[k * stride] / n;
  for (size_t k = 1; k + 1 < points; ++k) {
    const double bend = values[(k - 1) * stride] - 2 * values[k * stride] + values[(k + 1) * stride];
    bends += bend * bend / 6;  // of independent points on a line: their variance
  }
  const double variance = bends / (n - 2) / n;
  sums.mean += mean;
  sums.squares += mean * mean;
  sums.variance += variance;
  sums.variance_squares += variance * variance;
}

// Two stages: rows of the background (where not all), points on their paths. Source: Cochran 1977, 11.7; degrees of freedom by Welch and Satterthwaite.
double half_width_of(const Sums& s, const Design& design, double z) {
  const auto rows = static_cast<double>(design.rows.size()), points = static_cast<double>(design.points);
  const double mean = s.mean / rows, between = rows > 1 ? std::max(0.0, (s.squares - rows * mean * mean) / (rows - 1)) : 0;
  const double variance = (1 - design.share) * between / rows + design.share * s.variance / (rows * rows);
  if (variance <= 1e-28 * s.squares / rows) return 0;  // what rounding alone sets apart is exact
  const double freedom_of_row = (points - 2) / 1.94;   // bends overlap
  const double freedom = design.share < 1 ? rows - 1 : s.variance * s.variance / s.variance_squares * (freedom_of_row + 2) - 2;
  return student(z, std::max(3.0, freedom)) * std::sqrt(variance);
}

Result<std::vector<Sums>> sample_paths(Paths& paths, std::span<const double> background, size_t features, const Design& design, base::SplitMix64& draw) {
  std::vector<Sums> sums(features);
  for (size_t r = 0; r < design.rows.size(); ++r) {
    for (size_t k = 0; k < design.points; ++k) {
      const double within = draw.uniform();
      paths.add(background.subspan(design.rows[r] * features, features), (static_cast<double>(k) + within) / static_cast<double>(design.points));
    }
    if (paths.count() < kRowsAtATime && r + 1 < design.rows.size()) continue;
    auto values = paths.take();
    if (!values) return base::pass(values);
    for (size_t at = 0; at < values->size(); at += design.points * features) {
      for (size_t j = 0; j < features; ++j) add_row(values->data() + at + j, design.points, features, sums[j]);
    }
  }
  return sums;
}

}  // namespace

Result<GradientAttribution> integrated_gradients(const TableModel& model, std::span<const double> row, std::span<const double> baseline, int64_t output,
                                                 const IntegratedGradientsOptions& o) {
  if (Status ok = check(model, row, baseline.size(), output); !ok) return base::pass(ok);
  if (baseline.size() != row.size()) return base::refuse("a baseline of {} values does not fit a row of {}", baseline.size(), row.size());
  if (o.nodes < 1 || o.nodes > kMostPathFeatures / 2) return base::refuse("a piece of the path has 1 to {} nodes, not {}", kMostPathFeatures / 2, o.nodes);
  if (o.most_pieces < 1) return base::refuse("a path has one piece at least, not {}", o.most_pieces);
  Paths paths(model, row, output);
  std::vector<double> ends(row.begin(), row.end());
  ends.insert(ends.end(), baseline.begin(), baseline.end());
  for (size_t j = 0; j < row.size(); ++j) ends.push_back(paths.point(baseline, j, 0));
  auto scores = scores_of(model, ends, static_cast<int64_t>(row.size()), output);
  if (!scores) return base::pass(scores);
  GradientAttribution a{.half_width = std::vector<double>(row.size()), .base = (*scores)[1], .score = (*scores)[0]};
  const double along = (*scores)[0] - (*scores)[2];
  for (int pieces = 1;; pieces *= 2) {
    auto values = integral(paths, baseline, quadrature(o.nodes), pieces);
    if (!values) return base::pass(values);
    a.values = std::move(*values);
    if (std::abs(along - sum_of(a.values)) <= o.tolerance * std::max(1.0, std::abs(along)) || pieces > o.most_pieces / 2) break;
  }
  a.gap = a.score - a.base - sum_of(a.values);
  return a;
}

Result<GradientAttribution> expected_gradients(const TableModel& model, std::span<const double> row, std::span<const double> background, int64_t output,
                                               const ExpectedGradientsOptions& o) {
  if (Status ok = check(model, row, background.size(), output); !ok) return base::pass(ok);
  if (!(o.confidence > 0 && o.confidence < 1)) return base::refuse("a confidence lies between 0 and 1; {} does not", o.confidence);
  const size_t count = background.size() / row.size();
  const int64_t samples = o.samples == 0 ? std::clamp<int64_t>(16 * static_cast<int64_t>(count), 4096, 65536) : o.samples;
  if (samples < 16) return base::refuse("{} samples are too few for an interval; 16 are the fewest", samples);
  auto scores = scores_of(model, background, static_cast<int64_t>(row.size()), output), own = scores_of(model, row, static_cast<int64_t>(row.size()), output);
  for (auto* result : {&scores, &own}) {
    if (!*result) return base::pass(*result);
  }
  base::SplitMix64 draw{o.seed};
  const Design design(count, samples, draw);
  Paths paths(model, row, output);
  auto sums = sample_paths(paths, background, row.size(), design, draw);
  if (!sums) return base::pass(sums);
  GradientAttribution a{.base = sum_of(*scores) / static_cast<double>(count), .score = own->front()};
  const double z = two_sided(o.confidence);
  for (const Sums& s : *sums) {
    a.values.push_back(s.mean / static_cast<double>(design.rows.size()));
    a.half_width.push_back(half_width_of(s, design, z));
  }
  a.gap = a.score - a.base - sum_of(a.values);
  return a;
}

}  // namespace deepseek::explain
