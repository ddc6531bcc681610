#include "explain/training/held_out.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace deepseek::explain {
namespace {

double majority(const TrainingData& data) {
  std::vector<double> count(data.schema.classes.size());
  for (const double c : data.training.target) ++count[static_cast<size_t>(c)];
  const auto most = static_cast<double>(std::max_element(count.begin(), count.end()) - count.begin());
  const auto& judged = data.held_out.target;
  return static_cast<double>(std::count(judged.begin(), judged.end(), most)) / static_cast<double>(judged.size());
}

double accuracy(const TrainingData& data, std::span<const double> scores) {
  const size_t outputs = data.outputs();
  size_t right = 0;
  for (size_t r = 0; r < data.held_out.count(); ++r) {
    const auto row = scores.subspan(r * outputs, outputs);
    const auto guess = outputs == 1 ? (row[0] > 0 ? 1 : 0) : std::max_element(row.begin(), row.end()) - row.begin();
    right += static_cast<double>(guess) == data.held_out.target[r] ? 1 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(data.held_out.count());
}

// Of a softmax's outputs: each class against the others.
double mean_area(const TrainingData& data, std::span<const double> scores) {
  const size_t outputs = data.outputs(), count = data.held_out.count();
  std::vector<double> chances(scores.begin(), scores.end());
  if (outputs > 1) {
    for (size_t r = 0; r < count; ++r) {
      const auto row = std::span(chances).subspan(r * outputs, outputs);
      const double most = *std::max_element(row.begin(), row.end());
      double sum = 0;
      for (double& x : row) sum += x = std::exp(x - most);
      for (double& x : row) x /= sum;
    }
  }
  double sum = 0;
  size_t areas = 0;
  std::vector<double> of_class(count);
  std::vector<uint8_t> is_class(count);
  for (size_t o = 0; o < outputs; ++o) {
    for (size_t r = 0; r < count; ++r) {
      of_class[r] = chances[r * outputs + o];
      is_class[r] = data.held_out.target[r] == static_cast<double>(outputs == 1 ? 1 : o) ? 1 : 0;
    }
    const double area = area_under_roc(of_class, is_class);
    if (std::isnan(area)) continue;
    sum += area;
    ++areas;
  }
  return areas == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(areas);
}

}  // namespace

double area_under_roc(std::span<const double> scores, std::span<const uint8_t> is_class) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] < scores[b]; });
  double ranks = 0, inside = 0;  // Mann and Whitney's statistic from mean ranks
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin + 1;
    while (end < order.size() && scores[order[end]] == scores[order[begin]]) ++end;
    for (size_t i = begin; i < end; ++i) {
      if (is_class[order[i]] == 0) continue;
      ranks += 0.5 * static_cast<double>(begin + end + 1);
      ++inside;
    }
    begin = end;
  }
  const double outside = static_cast<double>(scores.size()) - inside;
  if (inside == 0 || outside == 0) return std::numeric_limits<double>::quiet_NaN();
  return (ranks - inside * (inside + 1) / 2) / (inside * outside);
}

void judge(const TrainingData& data, std::span<const double> scores, nlohmann::ordered_json& report) {
  if (data.task != Task::kRegression) {
    report["accuracy"] = accuracy(data, scores);
    if (const double area = mean_area(data, scores); !std::isnan(area)) report["auc"] = area;
    report["majority"] = majority(data);
    return;
  }
  const auto& target = data.held_out.target;
  const auto count = static_cast<double>(target.size());
  double mean = 0, errors = 0, spread = 0;
  for (const double y : target) mean += y / count;
  for (size_t r = 0; r < target.size(); ++r) {
    errors += (scores[r] - target[r]) * (scores[r] - target[r]);
    spread += (target[r] - mean) * (target[r] - mean);
  }
  report["rmse"] = std::sqrt(errors / count);
  if (spread > 0) report["r2"] = 1 - errors / spread;
}

}  // namespace deepseek::explain
