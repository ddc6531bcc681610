#include "explain/dependence.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/random.h"

namespace deepseek::explain {
namespace {

constexpr size_t kFewestRows = 500;             // that are left to pairs which are walked: a correlation is known to 0.045
constexpr size_t kMostSteps = size_t{1} << 29;  // rows of all pairs that are walked; 5 to 10 ns each
constexpr size_t kFewestCommon = 3;
constexpr int32_t kNone = -1;

// A column of the sample. Both kinds have the rows in rising order of value, missing ones left out, and the run of equal values that a row lies in.
struct Sampled {
  bool category = false;
  bool complete = true;
  std::vector<double> values;    // [rows]
  std::vector<int32_t> order;    // rows that have a value
  std::vector<int32_t> run;      // [rows]: number of the run of equal values, kNone where missing
  int32_t runs = 0;
};

Sampled sampled_column(std::span<const double> rows, size_t width, size_t j, const std::vector<int64_t>& sample, bool category) {
  Sampled column{.category = category};
  for (const int64_t row : sample) column.values.push_back(rows[static_cast<size_t>(row) * width + j]);
  column.run.assign(sample.size(), kNone);
  for (size_t r = 0; r < sample.size(); ++r) {
    if (std::isfinite(column.values[r])) column.order.push_back(static_cast<int32_t>(r));
  }
  column.complete = column.order.size() == sample.size();
  const auto value = [&](int32_t row) { return column.values[static_cast<size_t>(row)]; };
  std::stable_sort(column.order.begin(), column.order.end(), [&](int32_t a, int32_t b) { return value(a) < value(b); });
  for (size_t i = 0; i < column.order.size(); ++i) {
    if (i == 0 || value(column.order[i]) != value(column.order[i - 1])) ++column.runs;
    column.run[static_cast<size_t>(column.order[i])] = column.runs - 1;
  }
  // Sums of squares neither overflow nor vanish, whatever the unit.
  double largest = 0;
  for (const int32_t row : column.order) largest = std::max(largest, std::abs(value(row)));
  if (largest > 0) {
    for (double& v : column.values) v /= largest;
  }
  return column;
}

// Calls visit(row, rank) for the rows of a column in rising order: mean ranks among the rows that the other column has too, less their mean, and 0 for rows that it
// does not have. Returns the sum of squares of the ranks.
template <typename Visit>
double walk_ranks(const Sampled& column, const Sampled& other, size_t common, const Visit& visit) {
  const auto counts = [&](int32_t row) { return other.run[static_cast<size_t>(row)] != kNone ? 1.0 : 0.0; };
  const double middle = (static_cast<double>(common) - 1) / 2;
  double squares = 0, first = -middle;
  if (static_cast<size_t>(column.runs) == column.order.size()) {  // no ties: no branch either
    for (const int32_t row : column.order) {
      const double here = counts(row), rank = here * first;
      visit(row, rank);
      squares += rank * rank;
      first += here;
    }
    return squares;
  }
  for (size_t i = 0; i < column.order.size();) {
    size_t end = i;
    double size = 0;
    const int32_t run = column.run[static_cast<size_t>(column.order[i])];
    for (; end < column.order.size() && column.run[static_cast<size_t>(column.order[end])] == run; ++end) size += counts(column.order[end]);
    const double rank = first + (size - 1) / 2;
    for (; i < end; ++i) visit(column.order[i], counts(column.order[i]) * rank);
    squares += size * rank * rank;
    first += size;
  }
  return squares;
}

struct Scratch {
  std::vector<double> ranks;                 // [rows]
  std::vector<double> sums, counts, others;  // by run
};

size_t common_rows(const Sampled& a, const Sampled& b) {
  if (a.complete) return b.order.size();
  if (b.complete) return a.order.size();
  size_t common = 0;
  for (size_t r = 0; r < a.run.size(); ++r) common += a.run[r] != kNone && b.run[r] != kNone ? 1 : 0;
  return common;
}

double rank_correlation(const Sampled& a, const Sampled& b, Scratch& scratch) {
  const size_t common = common_rows(a, b);
  if (common < kFewestCommon) return 0;
  std::fill(scratch.ranks.begin(), scratch.ranks.end(), 0.0);
  double product = 0;
  const double squares_a = walk_ranks(a, b, common, [&](int32_t row, double rank) { scratch.ranks[static_cast<size_t>(row)] = rank; });
  const double squares_b = walk_ranks(b, a, common, [&](int32_t row, double rank) { product += rank * scratch.ranks[static_cast<size_t>(row)]; });
  return squares_a > 0 && squares_b > 0 ? std::min(1.0, std::abs(product) / std::sqrt(squares_a * squares_b)) : 0;
}

double correlation_ratio(const Sampled& category, const Sampled& number, Scratch& scratch) {
  const auto runs = static_cast<size_t>(category.runs);
  scratch.sums.assign(runs, 0);
  scratch.counts.assign(runs, 0);
  double n = 0, sum = 0;
  for (size_t r = 0; r < category.run.size(); ++r) {
    if (category.run[r] == kNone || number.run[r] == kNone) continue;
    scratch.sums[static_cast<size_t>(category.run[r])] += number.values[r];
    scratch.counts[static_cast<size_t>(category.run[r])] += 1;
    sum += number.values[r];
    n += 1;
  }
  if (n < kFewestCommon) return 0;
  const double mean = sum / n;
  double between = 0, total = 0, k = 0;
  for (size_t c = 0; c < runs; ++c) {
    if (scratch.counts[c] == 0) continue;
    const double away = scratch.sums[c] / scratch.counts[c] - mean;
    between += scratch.counts[c] * away * away;
    k += 1;
  }
  for (size_t r = 0; r < category.run.size(); ++r) {
    if (category.run[r] != kNone && number.run[r] != kNone) total += (number.values[r] - mean) * (number.values[r] - mean);
  }
  if (!(total > 0) || k < 2 || k >= n) return 0;
  return std::sqrt(std::clamp(1 - (1 - between / total) * (n - 1) / (n - k), 0.0, 1.0));
}

// Pearson's chi-squared over n is the sum of n_ij^2 / (n_i n_j), less 1. The cells of one category of a are counted at a time.
double cramers_v(const Sampled& a, const Sampled& b, Scratch& scratch) {
  std::vector<double>&cells = scratch.sums, &of_a = scratch.counts, &of_b = scratch.others;
  of_a.assign(static_cast<size_t>(a.runs), 0);
  of_b.assign(static_cast<size_t>(b.runs), 0);
  cells.assign(static_cast<size_t>(b.runs), 0);
  double n = 0;
  for (size_t r = 0; r < a.run.size(); ++r) {
    if (a.run[r] == kNone || b.run[r] == kNone) continue;
    of_a[static_cast<size_t>(a.run[r])] += 1;
    of_b[static_cast<size_t>(b.run[r])] += 1;
    n += 1;
  }
  if (n < kFewestCommon) return 0;
  double phi = -1;
  for (size_t i = 0; i < a.order.size();) {
    const int32_t run = a.run[static_cast<size_t>(a.order[i])];
    size_t end = i;
    for (; end < a.order.size() && a.run[static_cast<size_t>(a.order[end])] == run; ++end) {
      if (const int32_t other = b.run[static_cast<size_t>(a.order[end])]; other != kNone) cells[static_cast<size_t>(other)] += 1;
    }
    for (; i < end; ++i) {
      const int32_t other = b.run[static_cast<size_t>(a.order[i])];
      if (other == kNone) continue;
      const double cell = std::exchange(cells[static_cast<size_t>(other)], 0);
      phi += cell * cell / (of_a[static_cast<size_t>(run)] * of_b[static_cast<size_t>(other)]);
    }
  }
  const auto present = [](const std::vector<double>& counts) { return static_cast<double>(counts.size()) - static_cast<double>(std::count(counts.begin(), counts.end(), 0.0)); };
  const double k = present(of_a), l = present(of_b);
  const double most = std::min(k - (k - 1) * (k - 1) / (n - 1), l - (l - 1) * (l - 1) / (n - 1)) - 1;
  if (!(most > 1e-9)) return 0;
  return std::sqrt(std::clamp((phi - (k - 1) * (l - 1) / (n - 1)) / most, 0.0, 1.0));
}

double dependence(const Sampled& a, const Sampled& b, Scratch& scratch) {
  if (a.runs < 2 || b.runs < 2) return 0;
  if (a.category && b.category) return cramers_v(a, b, scratch);
  if (!a.category && !b.category) return rank_correlation(a, b, scratch);
  return a.category ? correlation_ratio(a, b, scratch) : correlation_ratio(b, a, scratch);
}

bool in_product(const Sampled& column) { return !column.category && column.complete && column.runs > 1; }

// All pairs of number columns that miss nothing: one product of their ranks.
void correlate_complete(const std::vector<Sampled>& columns, std::vector<double>& distance) {
  std::vector<size_t> which;
  for (size_t j = 0; j < columns.size(); ++j) {
    if (in_product(columns[j])) which.push_back(j);
  }
  if (which.size() < 2) return;
  const size_t count = columns[which[0]].values.size(), width = columns.size();
  if (count < kFewestCommon) return;
  std::vector<double> ranks(which.size() * count);
  for (size_t i = 0; i < which.size(); ++i) {
    const std::span<double> mine(ranks.data() + i * count, count);
    const Sampled& column = columns[which[i]];
    const double scale = 1 / std::sqrt(walk_ranks(column, column, count, [&](int32_t row, double rank) { mine[static_cast<size_t>(row)] = rank; }));
    for (double& rank : mine) rank *= scale;
  }
  const at::Tensor rows = at::from_blob(ranks.data(), {static_cast<int64_t>(which.size()), static_cast<int64_t>(count)}, at::kDouble);
  const at::Tensor product = at::mm(rows, rows.t()).contiguous();
  const double* correlation = product.const_data_ptr<double>();
  for (size_t i = 0; i < which.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const double away = 1 - std::min(1.0, std::abs(correlation[i * which.size() + j]));
      distance[which[i] * width + which[j]] = distance[which[j] * width + which[i]] = away;
    }
  }
}

std::vector<Sampled> sampled_columns(std::span<const double> rows, std::span<const uint8_t> is_category, const std::vector<int64_t>& sample) {
  std::vector<Sampled> columns;
  for (size_t j = 0; j < is_category.size(); ++j) columns.push_back(sampled_column(rows, is_category.size(), j, sample, is_category[j] != 0));
  return columns;
}

}  // namespace

std::vector<double> feature_distance(std::span<const double> rows, std::span<const uint8_t> is_category, const DependenceOptions& options) {
  const size_t width = is_category.size(), count = width == 0 ? 0 : rows.size() / width;
  std::vector<double> distance(width * width, 1);
  for (size_t j = 0; j < width; ++j) distance[j * width + j] = 0;
  const auto sample = base::some_of(static_cast<int64_t>(count), std::max<int64_t>(1, options.most_rows), options.seed);
  auto columns = sampled_columns(rows, is_category, sample);
  correlate_complete(columns, distance);
  std::vector<bool> done(width);
  for (size_t j = 0; j < width; ++j) done[j] = in_product(columns[j]);
  const auto simple = static_cast<size_t>(std::count(done.begin(), done.end(), true));
  const size_t walked = (width * width - simple * simple) / 2, affordable = std::max(kFewestRows, kMostSteps / std::max<size_t>(1, walked));
  if (sample.size() > affordable) columns = sampled_columns(rows, is_category, base::some_of(static_cast<int64_t>(count), static_cast<int64_t>(affordable), options.seed));
  Scratch scratch;
  scratch.ranks.resize(std::min(sample.size(), affordable));
  for (size_t i = 0; i < width; ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (!(done[i] && done[j])) distance[i * width + j] = distance[j * width + i] = 1 - dependence(columns[i], columns[j], scratch);
    }
  }
  return distance;
}

}  // namespace deepseek::explain
