// A model from a table alone: boosted trees or a small net, so that a user can start from a CSV.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/result.h"
#include "explain/table_model.h"
#include "formats/table/table.h"

namespace deepseek::explain {

enum class Learner : uint8_t { kTrees, kNet };

struct TrainTableOptions {
  Learner learner = Learner::kTrees;
  double held_out = 0.2;        ///< share of the rows that only judge
  int64_t rounds = 0;           ///< trees at most, or epochs; 0: as the learner thinks right; training stops early by a tenth of the training rows
  std::span<const double> weights = {};  ///< of the table's rows; empty: all 1. Rows of weight 0 still judge
  uint64_t seed = 0;
  int threads = 0;
  std::function<void(int64_t round, int64_t rounds, double loss)> on_progress;
  std::function<bool()> stop_requested;
};

/// Trains on the table and writes a directory: `model.json` (the schema, the learner, its report) and the trees (XGBoost's UBJSON) or the net (safetensors). A target of
/// text with two values makes a binary classifier of its second class (one output, log-odds), with more a classifier (one output a class), of numbers a regression.
/// Rows without a target are left out. Returns the report: {"learner", "task", "rows", "held_out", "rounds", "accuracy" and "auc" or "rmse" and "r2" of the held-out rows,
/// "majority" (accuracy of the most frequent class)}. Errors: a target that is not there, of one value, with more than 1,000 classes; fewer than 10 rows.
[[nodiscard]] base::Result<nlohmann::ordered_json> train_table(const formats::Table& table, const std::string& target, const base::fs::path& directory, const TrainTableOptions& options = {});

/// What train_table() wrote. Trees: score gives log-odds, `trees` is set; a net has a gradient.
[[nodiscard]] base::Result<TableModel> open_trained(const base::fs::path& directory);

}  // namespace deepseek::explain
