// How well scores foretell rows that training has not seen. Private to this folder.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "explain/training/training_data.h"

namespace deepseek::explain {

/// Area under the ROC curve: the chance that a row of the class scores above one of the others, ties half. NaN where either has no row.
[[nodiscard]] double area_under_roc(std::span<const double> scores, std::span<const uint8_t> is_class);

/// Adds "accuracy", "auc" and "majority", or "rmse" and "r2", of scores [count, outputs] of the held-out rows.
void judge(const TrainingData& data, std::span<const double> scores, nlohmann::ordered_json& report);

}  // namespace deepseek::explain
