#include "explain/training/train_table.h"

#include <system_error>

#include "explain/training/held_out.h"
#include "explain/training/trained_file.h"
#include "explain/training/training_data.h"

namespace deepseek::explain {

using base::Result;
using base::Status;
using Json = nlohmann::ordered_json;

Result<Learner> learner_named(const std::string& name) {
  if (name == "trees") return Learner::kTrees;
  if (name == "net") return Learner::kNet;
  return base::refuse("there is no learner '{}'; there are trees, net", name);
}

Result<FittedTable> fit_table(const formats::Table& table, const std::string& target, const TrainTableOptions& options) {
  auto data = training_data(table, target, options);
  if (!data) return base::pass(data);
  auto learned = options.learner == Learner::kTrees ? learn_trees(*data, options) : learn_net(*data, options);
  if (!learned) return base::pass(learned);
  FittedTable fitted{.model = std::move(learned->model), .schema = data->schema, .held_out = std::move(data->held_out_rows), .save = std::move(learned->save)};
  fitted.report = {{"learner", learner_name(options.learner)}, {"task", task_name(data->task)}, {"rows", data->training.count() + data->stopping.count()}, {"held_out", data->held_out.count()},
                   {"rounds", learned->rounds}};
  auto scores = fitted.model.score(data->held_out.rows);
  if (!scores) return base::pass(scores);
  judge(*data, *scores, fitted.report);
  return fitted;
}

Result<Json> train_table(const formats::Table& table, const std::string& target, const base::fs::path& directory, const TrainTableOptions& options) {
  // A place that cannot be written to shows before the training, not after it.
  std::error_code error;
  base::fs::create_directories(directory, error);
  if (error) return base::fail("cannot make the directory {}: {}", directory.string(), error.message());
  auto fitted = fit_table(table, target, options);
  if (!fitted) return base::pass(fitted);
  if (Status ok = write_trained(*fitted, options.learner, directory); !ok) return base::pass(ok);
  return std::move(fitted->report);
}

}  // namespace deepseek::explain
