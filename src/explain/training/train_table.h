// A model from a table alone: boosted trees or a small net, so that a user can start from a CSV.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/result.h"
#include "explain/table_model.h"
#include "explain/table_schema.h"
#include "formats/table/table.h"

namespace deepseek::explain {

enum class Learner : uint8_t { kTrees, kNet };

/// "trees", "net". Refuses other names.
[[nodiscard]] base::Result<Learner> learner_named(const std::string& name);

struct TrainTableOptions {
  Learner learner = Learner::kTrees;
  double held_out = 0.2;        ///< share of the rows that only judge
  int64_t rounds = 0;           ///< trees (of each class) at most, or epochs; 0: as the learner thinks right; training stops early by a tenth of the training rows
  std::span<const double> weights = {};  ///< of the table's rows, only their ratios count; empty: all 1. Rows of weight 0 still judge, and every row judges alike
  /// Of each row: the row of the table that it was copied from, its own number where it is no copy; empty: there are no copies. A copy trains where its original
  /// does and never judges, so that copies change neither which rows judge nor what they are judged by.
  std::span<const int64_t> sources = {};
  uint64_t seed = 0;
  int threads = 0;              ///< 0: all, of a small table fewer. The same seed and threads give the same model, bit by bit
  std::function<void(int64_t round, int64_t rounds, double loss)> on_progress;  ///< loss: of the rows that training stops by
  std::function<bool()> stop_requested;  ///< asked every round; true ends training with an error
};

/// A model that was trained and is not written yet.
struct FittedTable {
  TableModel model;
  TableSchema schema;
  nlohmann::ordered_json report;    ///< see train_table()
  double target_mean = 0, target_scale = 1;  ///< what the trees in the file of `save` leave out of a regression's scores: mean + scale * theirs
  std::vector<int64_t> held_out;    ///< rows of the table that judged, rising
  std::function<base::Status(const base::fs::path& file)> save;  ///< the trees or the net alone
};

/// Trains on the table. A target of text, or of two different numbers, with two values makes a binary classifier of its second class (one output, log-odds), with more
/// a classifier (one output a class), any other target of numbers a regression. Rows without a target are left out. The report: {"learner", "task" ("binary", "classes"
/// or "regression"), "rows" (that trained, and those it stopped by), "held_out", "rounds" (that were kept), "accuracy", "auc" and "majority" (accuracy of the most frequent
/// class of the training rows) or "rmse" and "r2"}, judged on the held-out rows. "auc" of more than two classes is the mean over the classes of each against the others;
/// it is absent where the held-out rows are of one class, "r2" where they have one value.
/// Refuses a target that is not there, of one value, with more than 1,000 classes; fewer than 10 rows that are no copies; options that make no sense; trees in a build
/// without XGBoost. Fails where it is stopped.
[[nodiscard]] base::Result<FittedTable> fit_table(const formats::Table& table, const std::string& target, const TrainTableOptions& options = {});

/// What a reader should know of the columns before training on them, a sentence each: dates that are text, and text with about as many values as rows.
[[nodiscard]] std::vector<std::string> column_notes(const formats::Table& table, const std::string& target);

/// fit_table() into a directory: `model.json` (the schema, the learner, its report) and the trees (`model.ubj`, XGBoost's UBJSON) or the net (`model.safetensors`).
/// The trees of a regression foretell (target - mean) / scale, because XGBoost counts gains below 1e-6 as none; model.json has both as "target_mean" and "target_scale".
/// Returns the report. An older model in the directory is replaced; a process that ends halfway leaves a directory without model.json, never one of two models.
[[nodiscard]] base::Result<nlohmann::ordered_json> train_table(const formats::Table& table, const std::string& target, const base::fs::path& directory,
                                                               const TrainTableOptions& options = {});

/// What train_table() wrote, as a fitted model's `model`. Trees: score gives log-odds, `trees` is set; a net has a gradient, which is 0 by categories, by numbers that
/// are missing, and by those farther than 100 standard deviations from the training rows' mean, where the net reads them as that far.
/// Nothing in the files is trusted; errors are one sentence that names the file.
[[nodiscard]] base::Result<TableModel> open_trained(const base::fs::path& directory);

}  // namespace deepseek::explain
