#include "explain/table_model.h"

#include <algorithm>
#include <cmath>

namespace deepseek::explain {

base::Result<std::vector<double>> scores_of(const TableModel& model, std::span<const double> rows, int64_t features, int64_t output) {
  auto scores = model.score(rows);
  if (!scores) return scores;
  const size_t count = rows.size() / static_cast<size_t>(features), outputs = model.outputs.size();
  if (scores->size() != count * outputs) return base::fail("the model gave {} scores for {} rows of {} outputs", scores->size(), count, outputs);
  if (outputs == 1) return scores;
  std::vector<double> one(count);
  for (size_t r = 0; r < count; ++r) one[r] = (*scores)[r * outputs + static_cast<size_t>(output)];
  return one;
}

std::vector<std::string> names_of(std::span<const FeatureText> features) {
  std::vector<std::string> names;
  for (const FeatureText& feature : features) names.push_back(feature.name);
  return names;
}

std::vector<uint8_t> category_flags(std::span<const FeatureText> features) {
  std::vector<uint8_t> flags;
  for (const FeatureText& feature : features) flags.push_back(feature.categories.empty() ? 0 : 1);
  return flags;
}

std::vector<double> rows_at(std::span<const double> rows, int64_t features, std::span<const int64_t> which) {
  std::vector<double> chosen;
  chosen.reserve(which.size() * static_cast<size_t>(features));
  for (const int64_t r : which) chosen.insert(chosen.end(), rows.begin() + r * features, rows.begin() + (r + 1) * features);
  return chosen;
}

double softmax_of(std::span<const double> scores, size_t output) {
  const double most = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double x : scores) sum += std::exp(x - most);
  return std::exp(scores[output] - most) / sum;
}

}  // namespace deepseek::explain
