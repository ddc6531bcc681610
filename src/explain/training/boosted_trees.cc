// Gradient boosting by XGBoost's C API. Its log is off: what goes wrong comes back as an error.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "base/files.h"
#include "explain/training/training_data.h"
#include "explain/tree_scorer.h"
#ifdef DEEPSEEK_HAVE_XGBOOST
#include <xgboost/c_api.h>
#endif

namespace deepseek::explain {

using base::Result;
using base::Status;

Result<TableModel> read_trees(TableModel frame, std::string_view content, const Moments& target) {
  auto trees = parse_tree_ensemble(content);
  if (!trees) return base::pass(trees);
  if (trees->features.size() != frame.features.size()) return base::fail("the trees read {} features, the schema has {}", trees->features.size(), frame.features.size());
  if (trees->base.size() != frame.outputs.size()) return base::fail("the trees have {} outputs, the schema asks for {}", trees->base.size(), frame.outputs.size());
  if (trees->link != frame.link) return base::fail("the trees were made for another task than model.json names");
  for (size_t j = 0; j < frame.features.size(); ++j) trees->features[j] = frame.features[j].name;
  for (double& base : trees->base) base = target.mean + target.scale * base;
  for (Tree& tree : trees->trees) {
    for (TreeNode& node : tree.nodes) node.value *= target.scale;
  }
  if (Status ok = check_ensemble(*trees); !ok) return base::pass(ok);
  frame.kind = trees->kind;
  frame.trees = std::make_shared<const TreeEnsemble>(std::move(*trees));
  frame.score = [width = frame.features.size(), scorer = std::make_shared<const TreeScorer>(frame.trees)](std::span<const double> rows) -> Result<std::vector<double>> {
    if (rows.size() % width != 0) return base::fail("{} numbers are no rows of {} features", rows.size(), width);
    return (*scorer)(rows);
  };
  return frame;
}

#ifndef DEEPSEEK_HAVE_XGBOOST

Result<Learned> learn_trees(const TrainingData&, const TrainTableOptions&) { return base::refuse("this build trains no trees; XGBoost was not there when it was made. Train a net instead"); }

#else

namespace {

constexpr int64_t kRounds = 1000;
constexpr int64_t kPatience = 50;        // rounds without a better loss
constexpr double kLargest = 1e38;        // XGBoost doubles the largest number of a column and takes no infinite ones
constexpr const char* kLearningRate = "0.1";

// "[12:00:00] file.cc:12: Check failed: ...\nStack trace: ..." in one sentence.
std::string last_error() {
  std::string text = XGBGetLastError();
  text.resize(std::min(text.find('\n'), text.size()));
  if (const size_t end = text.find("] "); text.starts_with('[') && end != std::string::npos) text.erase(0, end + 2);
  if (const size_t file = text.find(": "); file != std::string::npos && text.find(':') < file && text.find(' ') > file) text.erase(0, file + 2);
  return text;
}

Status call(int code) { return code == 0 ? Status{} : base::fail("XGBoost: {}", last_error()); }

struct FreeMatrix {
  void operator()(void* handle) const { XGDMatrixFree(handle); }
};
struct FreeBooster {
  void operator()(void* handle) const { XGBoosterFree(handle); }
};
using Matrix = std::unique_ptr<void, FreeMatrix>;
using Booster = std::unique_ptr<void, FreeBooster>;

std::vector<float> floats(const std::vector<double>& values) {
  std::vector<float> to(values.size());
  std::transform(values.begin(), values.end(), to.begin(), [](double x) { return static_cast<float>(std::isnan(x) ? x : std::clamp(x, -kLargest, kLargest)); });
  return to;
}

Result<Matrix> matrix_of(const TrainingData& data, const TrainingPart& part, int threads) {
  DMatrixHandle handle = nullptr;
  if (Status ok = call(XGDMatrixCreateFromMat_omp(floats(part.rows).data(), part.count(), data.schema.features.size(), std::numeric_limits<float>::quiet_NaN(), &handle, threads)); !ok) {
    return base::pass(ok);
  }
  Matrix matrix(handle);
  std::vector<const char*> types;
  for (const FeatureText& feature : data.schema.features) types.push_back(feature.categories.empty() ? "float" : "c");
  if (Status ok = call(XGDMatrixSetStrFeatureInfo(handle, "feature_type", types.data(), types.size())); !ok) return base::pass(ok);
  std::vector<double> target = part.target;
  for (double& y : target) y = (y - data.target.mean) / data.target.scale;
  for (const auto& [name, values] : {std::pair{"label", floats(target)}, {"weight", floats(part.weights)}}) {
    if (Status ok = call(XGDMatrixSetFloatInfo(handle, name, values.data(), values.size())); !ok) return base::pass(ok);
  }
  return matrix;
}

// Where boosting begins.
double share_of_second_class(const TrainingData& data) {
  double sum = 0;
  for (size_t r = 0; r < data.training.count(); ++r) sum += data.training.weights[r] * data.training.target[r] / static_cast<double>(data.training.count());
  return std::clamp(sum, 1e-6, 1 - 1e-6);
}

Result<Booster> new_booster(const TrainingData& data, const Matrix& training, const Matrix& stopping, int threads, uint64_t seed) {
  const DMatrixHandle matrices[] = {training.get(), stopping.get()};
  BoosterHandle handle = nullptr;
  if (Status ok = call(XGBoosterCreate(matrices, 2, &handle)); !ok) return base::pass(ok);
  Booster booster(handle);
  std::vector<std::pair<std::string, std::string>> parameters{{"verbosity", "0"},          {"nthread", fmt::format("{}", threads)}, {"seed", fmt::format("{}", seed % 0x7fffffff)},
                                                              {"tree_method", "hist"},     {"learning_rate", kLearningRate},        {"max_depth", "6"},
                                                              {"subsample", "0.8"},        {"colsample_bytree", "0.8"}};
  switch (data.task) {
    case Task::kBinary:
      parameters.insert(parameters.end(), {{"objective", "binary:logistic"}, {"eval_metric", "logloss"}, {"base_score", fmt::format("{}", static_cast<float>(share_of_second_class(data)))}});
      break;
    case Task::kClasses:
      parameters.insert(parameters.end(), {{"objective", "multi:softprob"}, {"eval_metric", "mlogloss"}, {"num_class", fmt::format("{}", data.outputs())}});
      break;
    case Task::kRegression: parameters.insert(parameters.end(), {{"objective", "reg:squarederror"}, {"eval_metric", "rmse"}, {"base_score", "0"}}); break;
  }
  for (const auto& [name, value] : parameters) {
    if (Status ok = call(XGBoosterSetParam(handle, name.c_str(), value.c_str())); !ok) return base::pass(ok);
  }
  return booster;
}

// The names and types of the columns, so that the file says by itself what it reads.
Status name_features(const Booster& booster, const TableSchema& schema) {
  std::vector<const char*> names, types;
  for (const FeatureText& feature : schema.features) {
    names.push_back(feature.name.c_str());
    types.push_back(feature.categories.empty() ? "float" : "c");
  }
  if (Status ok = call(XGBoosterSetStrFeatureInfo(booster.get(), "feature_name", names.data(), names.size())); !ok) return ok;
  return call(XGBoosterSetStrFeatureInfo(booster.get(), "feature_type", types.data(), types.size()));
}

// "[3]\tstopping-logloss:0.31"
Result<double> loss_of(const Booster& booster, int round, const Matrix& stopping) {
  DMatrixHandle matrix = stopping.get();
  const char *name = "stopping", *text = nullptr;
  if (Status ok = call(XGBoosterEvalOneIter(booster.get(), round, &matrix, &name, 1, &text)); !ok) return base::pass(ok);
  const std::string_view line = text;
  const auto loss = formats::number_in(line.substr(line.rfind(':') + 1));
  return loss ? *loss : std::numeric_limits<double>::quiet_NaN();
}

// The number of rounds up to the best one.
Result<int64_t> boost(const Booster& booster, const Matrix& training, const Matrix& stopping, const TrainTableOptions& o) {
  const int64_t rounds = o.rounds > 0 ? o.rounds : kRounds;
  double best = std::numeric_limits<double>::infinity();
  int64_t kept = 1;
  for (int64_t round = 0; round < rounds && round < kept + kPatience; ++round) {
    if (o.stop_requested && o.stop_requested()) return base::fail("training was stopped after {} of {} rounds; nothing was written", round, rounds);
    if (Status ok = call(XGBoosterUpdateOneIter(booster.get(), static_cast<int>(round), training.get())); !ok) return base::pass(ok);
    auto loss = loss_of(booster, static_cast<int>(round), stopping);
    if (!loss) return base::pass(loss);
    if (*loss < best) {
      best = *loss;
      kept = round + 1;
    }
    if (o.on_progress) o.on_progress(round + 1, rounds, *loss);
  }
  return kept;
}

Result<std::string> bytes_of(const Booster& booster) {
  bst_ulong size = 0;
  const char* data = nullptr;
  if (Status ok = call(XGBoosterSaveModelToBuffer(booster.get(), R"({"format": "ubj"})", &size, &data)); !ok) return base::pass(ok);
  return std::string(data, size);
}

}  // namespace

Result<Learned> learn_trees(const TrainingData& data, const TrainTableOptions& options) {
  const int threads = threads_for(data, options);
  if (Status ok = call(XGBSetGlobalConfig(R"({"verbosity": 0})")); !ok) return base::pass(ok);
  auto training = matrix_of(data, data.training, threads), stopping = matrix_of(data, data.stopping, threads);
  for (auto* matrix : {&training, &stopping}) {
    if (!*matrix) return base::pass(*matrix);
  }
  auto booster = new_booster(data, *training, *stopping, threads, options.seed);
  if (!booster) return base::pass(booster);
  auto rounds = boost(*booster, *training, *stopping, options);
  if (!rounds) return base::pass(rounds);
  BoosterHandle handle = nullptr;
  if (Status ok = call(XGBoosterSlice(booster->get(), 0, static_cast<int>(*rounds), 1, &handle)); !ok) return base::pass(ok);
  const Booster kept(handle);
  if (Status ok = name_features(kept, data.schema); !ok) return base::pass(ok);
  auto bytes = bytes_of(kept);
  if (!bytes) return base::pass(bytes);
  auto model = read_trees(model_frame(data.schema, data.task), *bytes, data.target);
  if (!model) return base::pass(model);
  return Learned{.model = std::move(*model), .rounds = *rounds, .save = [content = std::move(*bytes)](const base::fs::path& file) { return base::write_file_atomically(file, content); }};
}

#endif

}  // namespace deepseek::explain
