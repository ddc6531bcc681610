#include "explain/training/training_data.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "base/random.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using formats::Column;
using formats::Table;

constexpr size_t kLeastRows = 10;
constexpr size_t kMostClasses = 1000;
constexpr int64_t kMostRounds = 1'000'000;

Status check_options(const Table& table, const TrainTableOptions& o) {
  const auto rows = static_cast<size_t>(table.rows);
  if (!(o.held_out > 0 && o.held_out < 1)) return base::refuse("the share of held-out rows lies between 0 and 1; {} does not", o.held_out);
  if (o.rounds < 0 || o.rounds > kMostRounds) return base::refuse("there cannot be {} rounds; 1 to {} are possible", o.rounds, kMostRounds);
  if (o.threads < 0) return base::refuse("there cannot be {} threads", o.threads);
  if (!o.weights.empty() && o.weights.size() != rows) return base::refuse("{} weights for {} rows", o.weights.size(), rows);
  for (const double w : o.weights) {
    if (!(w >= 0) || !std::isfinite(w)) return base::refuse("a row cannot have the weight {}", w);
  }
  if (!o.sources.empty() && o.sources.size() != rows) return base::refuse("{} sources for {} rows", o.sources.size(), rows);
  for (const int64_t s : o.sources) {
    if (s < 0 || s >= table.rows || o.sources[static_cast<size_t>(s)] != s) return base::refuse("a row cannot be a copy of row {}", s);
  }
  return {};
}

// The classes of a target: its categories, or its two numbers. codes: of the column's values.
struct Target {
  std::vector<std::string> classes;
  std::vector<double> values;  // [rows]
};

Result<Target> read_target(const Column& column) {
  Target target{.classes = column.categories, .values = column.values};
  std::set<double> seen;
  for (const double v : column.values) {
    if (!std::isnan(v)) seen.insert(v);
    if (column.is_number() && seen.size() > 2) return target;
  }
  if (seen.empty()) return base::refuse("the target '{}' is missing in every row", column.name);
  if (seen.size() == 1) return base::refuse("the target '{}' has one value in all rows, '{}'; there is nothing to learn", column.name, display({column.name, column.categories}, *seen.begin()));
  if (seen.size() > kMostClasses) return base::refuse("the target '{}' has {} classes; {} are the most", column.name, seen.size(), kMostClasses);
  // Classes without a row would be outputs that nothing is known of.
  std::vector<std::string> classes;
  for (const double v : seen) classes.push_back(display({column.name, column.categories}, v));
  if (classes[0] == classes[1]) classes = {fmt::format("{}", *seen.begin()), fmt::format("{}", *seen.rbegin())};
  for (double& v : target.values) {
    if (!std::isnan(v)) v = static_cast<double>(std::distance(seen.begin(), seen.find(v)));
  }
  target.classes = std::move(classes);
  return target;
}

enum class Fate : uint8_t { kNone, kTraining, kStopping, kHeldOut };

uint64_t place_of(uint64_t seed, size_t row) {
  base::SplitMix64 mixed{seed};
  return base::SplitMix64{mixed() ^ row}();
}

// What becomes of each row of the table.
Result<std::vector<Fate>> fates_of(const Target& target, const TrainTableOptions& o) {
  const size_t rows = target.values.size();
  const auto source = [&](size_t r) { return o.sources.empty() ? r : static_cast<size_t>(o.sources[r]); };
  const auto weighs = [&](size_t r) { return o.weights.empty() || o.weights[r] > 0; };
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t r = 0; r < rows; ++r) {
    if (source(r) == r && !std::isnan(target.values[r])) order.emplace_back(place_of(o.seed, r), r);
  }
  if (order.size() < kLeastRows) return base::refuse("{} rows have a target; {} are the least to train on", order.size(), kLeastRows);
  std::sort(order.begin(), order.end());
  std::vector<Fate> fates(rows, Fate::kNone);
  const auto count = static_cast<double>(order.size());
  const auto held_out = static_cast<size_t>(std::clamp(std::round(o.held_out * count), 1.0, count - 2));
  for (size_t i = 0; i < held_out; ++i) fates[order[i].second] = Fate::kHeldOut;
  std::vector<size_t> left;
  for (size_t i = held_out; i < order.size(); ++i) {
    if (weighs(order[i].second)) left.push_back(order[i].second);
    else fates[order[i].second] = Fate::kTraining;
  }
  const size_t stopping = std::max<size_t>(1, left.size() / 10);
  for (size_t i = 0; i < left.size(); ++i) fates[left[i]] = i < stopping ? Fate::kStopping : Fate::kTraining;
  bool any = false;
  for (size_t r = 0; r < rows; ++r) {
    if (source(r) != r) fates[r] = fates[source(r)] == Fate::kHeldOut || std::isnan(target.values[r]) ? Fate::kNone : fates[source(r)];
    if (fates[r] != Fate::kHeldOut && !weighs(r)) fates[r] = Fate::kNone;
    any = any || fates[r] == Fate::kTraining;
  }
  if (!any || left.empty()) return base::refuse("too few of the rows have a weight above 0 to train on");
  return fates;
}

TrainingPart part_of(std::span<const double> rows, const Target& target, const std::vector<Fate>& fates, Fate fate, std::span<const double> weights) {
  TrainingPart part;
  const size_t count = fates.size(), width = rows.size() / count;
  for (size_t r = 0; r < count; ++r) {
    if (fates[r] != fate) continue;
    part.rows.insert(part.rows.end(), rows.begin() + static_cast<int64_t>(r * width), rows.begin() + static_cast<int64_t>((r + 1) * width));
    part.target.push_back(target.values[r]);
    part.weights.push_back(weights.empty() || fate == Fate::kHeldOut ? 1 : weights[r]);
  }
  const double most = part.weights.empty() ? 1 : *std::max_element(part.weights.begin(), part.weights.end());
  double sum = 0;
  for (double& w : part.weights) sum += w /= most;  // so that huge weights do not overflow the sum
  for (double& w : part.weights) w *= static_cast<double>(part.count()) / sum;
  return part;
}

}  // namespace

const char* task_name(Task task) { return task == Task::kBinary ? "binary" : task == Task::kClasses ? "classes" : "regression"; }

Result<TrainingData> training_data(const Table& table, const std::string& target, const TrainTableOptions& options) {
  auto schema = schema_of(table, target);
  if (!schema) return base::pass(schema);
  if (target.empty()) return base::refuse("training needs the name of a target");
  if (schema->features.empty()) return base::refuse("the table has no column besides the target '{}'", target);
  if (Status ok = check_options(table, options); !ok) return base::pass(ok);
  auto known = read_target(*table.find(target));
  if (!known) return base::pass(known);
  auto fates = fates_of(*known, options);
  if (!fates) return base::pass(fates);
  auto rows = rows_of(table, schema->features);
  if (!rows) return base::pass(rows);
  TrainingData data{.schema = std::move(*schema)};
  data.schema.classes = known->classes;
  if (auto ok = read_schema(schema_json(data.schema)); !ok) return base::within("this table cannot be trained on", ok.error());  // what could not be opened again
  data.task = known->classes.empty() ? Task::kRegression : known->classes.size() == 2 ? Task::kBinary : Task::kClasses;
  data.training = part_of(rows->rows, *known, *fates, Fate::kTraining, options.weights);
  data.stopping = part_of(rows->rows, *known, *fates, Fate::kStopping, options.weights);
  data.held_out = part_of(rows->rows, *known, *fates, Fate::kHeldOut, options.weights);
  for (size_t r = 0; r < fates->size(); ++r) {
    if ((*fates)[r] == Fate::kHeldOut) data.held_out_rows.push_back(static_cast<int64_t>(r));
  }
  return data;
}

TableModel model_frame(const TableSchema& schema, Task task) {
  TableModel model{.features = schema.features, .target = schema.target};
  switch (task) {
    case Task::kBinary:
      model.outputs = {schema.classes[1]};
      model.link = TreeEnsemble::Link::kLogistic;
      break;
    case Task::kClasses:
      model.outputs = schema.classes;
      model.link = TreeEnsemble::Link::kSoftmax;
      break;
    case Task::kRegression: model.outputs = {schema.target}; break;
  }
  return model;
}

}  // namespace deepseek::explain
