// Any bytes as a model of XGBoost or LightGBM; what is one scores a few rows, and both scorers agree.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include "explain/tree_ensemble.h"
#include "explain/tree_scorer.h"

namespace explain = deepseek::explain;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto model = explain::parse_tree_ensemble({reinterpret_cast<const char*>(data), size});
  if (!model) return 0;
  const size_t features = model->features.size(), outputs = model->base.size();
  if (features > 1000 || outputs > 1000) return 0;
  std::vector<double> rows;
  for (const double x : {0.0, 1.0, -1.0, 1e300, std::nan(""), 3.5}) rows.insert(rows.end(), features, x);
  const auto expected = explain::raw_scores(*model, rows);
  const auto found = explain::TreeScorer(std::make_shared<explain::TreeEnsemble>(std::move(*model)))(rows, 1);
  if (found.size() != expected.size()) std::abort();
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] != expected[i] && !(std::isnan(found[i]) && std::isnan(expected[i]))) std::abort();
  }
  return 0;
}
