#include "explain/table_model.h"

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

}  // namespace deepseek::explain
