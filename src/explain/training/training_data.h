// A table as what learners read: numbers, the parts that the rows fall into, the task. Private to this folder.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "explain/training/train_table.h"

namespace deepseek::explain {

enum class Task : uint8_t { kBinary, kClasses, kRegression };
[[nodiscard]] const char* task_name(Task task);

struct TrainingPart {
  std::vector<double> rows;     ///< [count, features]
  std::vector<double> target;   ///< [count]: the class, or the number
  std::vector<double> weights;  ///< [count], of mean 1
  [[nodiscard]] size_t count() const { return target.size(); }
};

struct TrainingData {
  TableSchema schema;
  Task task = Task::kRegression;
  TrainingPart training, stopping, held_out;
  std::vector<int64_t> held_out_rows;  ///< of the table, rising

  /// Scores of a row.
  [[nodiscard]] size_t outputs() const { return task == Task::kClasses ? schema.classes.size() : 1; }
};

/// Checks the target and the options, and splits the rows by a hash of the seed and their number.
[[nodiscard]] base::Result<TrainingData> training_data(const formats::Table& table, const std::string& target, const TrainTableOptions& options);

/// The model of a schema and task without what scores: features, outputs, target, link.
[[nodiscard]] TableModel model_frame(const TableSchema& schema, Task task);

/// What a learner made of the data.
struct Learned {
  TableModel model;
  int64_t rounds = 0;  ///< that were kept
  std::function<base::Status(const base::fs::path& file)> save;
};
[[nodiscard]] base::Result<Learned> learn_trees(const TrainingData& data, const TrainTableOptions& options);
[[nodiscard]] base::Result<Learned> learn_net(const TrainingData& data, const TrainTableOptions& options);

/// Models of files: the frame with what scores. Errors do not name the file.
[[nodiscard]] base::Result<TableModel> read_trees(TableModel frame, std::string_view content);
[[nodiscard]] base::Result<TableModel> read_net(TableModel frame, const base::fs::path& file);

}  // namespace deepseek::explain
