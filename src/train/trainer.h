// A fine-tuning run from its first step to its last: curriculum, evaluation, early stopping, checkpoints, metrics.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "models/adapter/adapter.h"
#include "models/adapter/indexer.h"
#include "train/curriculum.h"
#include "train/data.h"
#include "train/indexer_training.h"
#include "train/learning_rate.h"
#include "train/parallel.h"

namespace deepseek::train {

enum class Difficulty { kAuto, kField, kLength, kLoss };
[[nodiscard]] base::Result<Difficulty> difficulty_named(const std::string& name);

struct TrainOptions {
  base::fs::path output;           ///< adapter (best), last/, metrics.jsonl
  models::AdapterConfig adapter;
  base::fs::path init_adapter;     ///< start from this PEFT adapter instead of an untrained one, or from the indexers there, or from both
  IndexerStage dsa = IndexerStage::kNone;  ///< trains indexers: kWarmup alone, kSparse beside a LoRA adapter, from those of init_adapter
  models::IndexerConfig indexer;   ///< kWarmup: of new ones; top_k 0: those of init_adapter, or 512
  double epochs = 3;
  int64_t steps = 0;               ///< instead of epochs
  int64_t batch_size = 8;          ///< examples of one forward and backward pass
  int64_t gradient_accumulation = 1;  ///< passes for one optimiser step
  int64_t micro_batch_tokens = 2048;  ///< a pass is cut into pieces of at most so many tokens; the result is the same
  bool checkpoint = false;         ///< recompute activations
  double learning_rate = 2e-4;
  ScheduleKind schedule = ScheduleKind::kCosine;
  double warmup = 0.05;            ///< share of the steps
  double weight_decay = 0, max_grad_norm = 1;
  int64_t curriculum_steps = 1;
  Order curriculum_order = Order::kForward;
  Pace curriculum_schedule = Pace::kStages;
  Difficulty difficulty = Difficulty::kAuto;
  int64_t eval_every = 0;          ///< steps; 0: five times in the run
  int64_t early_stopping = 0;      ///< evaluations without a better one before the run ends; 0: never
  int64_t save_every = 0;          ///< steps; 0: at each evaluation
  bool resume = false, overwrite = false;
  uint64_t seed = 42;
  std::string model_name;          ///< for adapter_config.json and the record of the run
  nlohmann::ordered_json start;    ///< more fields for the "start" line of the metrics
};

struct TrainSummary {
  int64_t steps = 0, best_step = 0;
  double base_recall = -1, best_recall = -1;  ///< of the attention on the best top_k keys, the share that the indexers found; < 0: not measured
  double base_loss = -1, best_loss = -1, last_loss = -1;  ///< validation (last_loss: of the last training step); < 0: none
  double seconds = 0;
  std::string reason;  ///< "finished", "early stopping", "interrupted"
  bool resumable = true;  ///< false: interrupted before there was anything to save
};

struct TrainHooks {
  /// Every line of metrics.jsonl as it is written.
  std::function<void(const nlohmann::ordered_json&)> event;
  /// Asked between steps and while losses are measured; true saves and ends the run.
  std::function<bool()> stop;
  /// Losses are being measured without training (`what`: "difficulty", "held-out loss"): examples done, and all of them.
  std::function<void(const char* what, size_t done, size_t all)> measuring;
};

/// Checks the options before any work. Errors name the option.
[[nodiscard]] base::Status check_options(const TrainOptions& options);

/// Makes the output directory, before anything large is read. Errors: it holds an earlier run, or none to resume; it cannot be
/// written to.
[[nodiscard]] base::Status prepare_output(const TrainOptions& options, const Parallel& parallel);

/// Steps of a run over `examples` examples.
[[nodiscard]] int64_t total_steps(const TrainOptions& options, size_t examples);

/// Trains an adapter on `decoder`, which ends with the adapter of the last step on it. The output directory gets the best one.
[[nodiscard]] base::Result<TrainSummary> fine_tune(models::Decoder& decoder, const TrainingData& data, const TrainOptions& options,
                                                   const TrainHooks& hooks, const Parallel& parallel);

}  // namespace deepseek::train
