// All that a stopped run needs to go on, bit for bit: one file, written atomically.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/files.h"
#include "train/adamw.h"

namespace deepseek::train {

struct TrainState {
  int64_t step = 0;                ///< optimiser steps done
  double base_loss = -1;           ///< validation loss before training; < 0: not measured
  double best_loss = -1;
  double base_recall = -1, best_recall = -1;  ///< of indexers; < 0: not measured
  int64_t best_step = 0;
  int64_t bad_evaluations = 0;     ///< evaluations since the best one
  bool evaluation_due = false;     ///< the run was stopped before or in the evaluation of its last step
  double seconds = 0;              ///< of training so far
  int64_t threads = 0, processes = 0;  ///< what computed it; the same ones give the same bits
  std::vector<double> difficulty;  ///< of the training examples
  nlohmann::ordered_json run;      ///< the settings that decide the course of the run
};

constexpr const char* kStateFile = "training_state.safetensors";

/// `names` are those of the optimizer's parameters.
[[nodiscard]] base::Status save_state(const base::fs::path& file, const TrainState& state, const std::vector<std::string>& names, AdamW& optimizer);

/// Restores parameters and moments in place. Errors: no file, a broken one, or settings that differ from `run` (named).
[[nodiscard]] base::Result<TrainState> load_state(const base::fs::path& file, const nlohmann::ordered_json& run,
                                                  const std::vector<std::string>& names, AdamW& optimizer);

}  // namespace deepseek::train
