#include "explain/training/trained_file.h"

#include <system_error>

#include "base/json.h"
#include "explain/training/training_data.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using Json = nlohmann::ordered_json;
namespace fs = base::fs;

constexpr const char* kDescription = "model.json";
constexpr size_t kLargestDescription = size_t{256} << 20;  // names and categories
constexpr size_t kLargestTrees = size_t{1} << 30;

const char* file_of(Learner learner) { return learner == Learner::kTrees ? "model.ubj" : "model.safetensors"; }

Status remove_file(const fs::path& file) {
  std::error_code error;
  fs::remove(file, error);
  return error ? base::fail("cannot remove {}: {}", file.string(), error.message()) : Status{};
}

struct Description {
  TableModel frame;
  Learner learner = Learner::kTrees;
};

Result<Description> read_description(const Json& json) {
  auto schema = read_schema(json);
  if (!schema) return base::pass(schema);
  if (schema->target.empty()) return base::fail("there is no target");
  auto learner = learner_named(base::value_or<std::string>(json, "learner", ""));
  if (!learner) return base::pass(learner);
  const auto name = base::value_or<std::string>(json, "task", "");
  const size_t classes = schema->classes.size();
  for (const auto& [task, fits] : {std::pair{Task::kBinary, classes == 2}, {Task::kClasses, classes > 2}, {Task::kRegression, classes == 0}}) {
    if (name != task_name(task)) continue;
    if (!fits) return base::fail("a model of the task '{}' cannot have {} classes", name, classes);
    return Description{.frame = model_frame(*schema, task), .learner = *learner};
  }
  return base::fail("there is no task '{}'; there are binary, classes, regression", name);
}

}  // namespace

const char* learner_name(Learner learner) { return learner == Learner::kTrees ? "trees" : "net"; }

Status write_trained(const FittedTable& fitted, Learner learner, const fs::path& directory) {
  const fs::path description = directory / kDescription;
  if (Status ok = remove_file(description); !ok) return ok;
  base::flush_directory(directory);
  if (Status ok = fitted.save(directory / file_of(learner)); !ok) return ok;
  if (Status ok = remove_file(directory / file_of(learner == Learner::kTrees ? Learner::kNet : Learner::kTrees)); !ok) return ok;
  Json json = schema_json(fitted.schema);
  json["learner"] = learner_name(learner);
  json["task"] = fitted.report.at("task");
  json["report"] = fitted.report;
  return base::write_file_atomically(description, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Result<TableModel> open_trained(const fs::path& directory) {
  const fs::path description = directory / kDescription;
  std::error_code error;
  if (!fs::is_regular_file(description, error)) return base::refuse("{} holds no trained model: there is no {} in it", directory.string(), kDescription);
  auto json = base::read_json_file(description, kLargestDescription);
  if (!json) return base::pass(json);
  auto read = read_description(*json);
  if (!read) return base::within(description.string(), read.error());
  const fs::path file = directory / file_of(read->learner);
  if (read->learner == Learner::kNet) return read_net(std::move(read->frame), file);
  auto content = base::read_file(file, kLargestTrees);
  if (!content) return base::pass(content);
  auto model = read_trees(std::move(read->frame), *content);
  if (!model) return base::within(file.string(), model.error());
  return model;
}

}  // namespace deepseek::explain
