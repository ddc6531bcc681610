// How much augmentation it takes to cut a reliance, found by training and measuring.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "explain/reliance/proxies.h"
#include "explain/training/train_table.h"
#include "formats/table/table.h"

namespace deepseek::explain {

struct PlanOptions {
  double target_reliance = 0;         ///< share of the feature that is wanted; 0: half of what a model trained on the table has
  double most_accuracy_lost = 0.01;   ///< on the held-out rows; of r2 where the target is a number
  std::vector<std::string> together;  ///< columns that are redrawn with the feature, from the same donor: strong proxies, where they shall count less too
  double reweigh = 0;                 ///< above 0, at most 1: every trial also reweighs the rows by the feature, this strongly. It takes away what the labels owe to the feature through its
                                      ///< proxies too, and what they rightly share: worth it where the labels are known to be biased by the feature
  std::optional<double> expected;     ///< share that was expected; only noted in the plan
  std::optional<double> found;        ///< share of the model in question; only noted in the plan
  const ProxyReport* proxies = nullptr;  ///< only noted in the plan
  TrainTableOptions training;         ///< of the models that are compared; without weights and sources
  int64_t explained = 300;            ///< held-out rows that the share is taken over
  int64_t background = 50;
  std::function<void(const std::string&)> on_trial;  ///< for the log: "strength 1: reliance 0.11 instead of 0.21, accuracy 0.861 instead of 0.868"
};

/// Trains on the table as it is, then with counterfactual copies of rising strength, and takes the least strength that cuts the feature's share as far as wanted and loses no more
/// accuracy than allowed; where none does, the one that cuts furthest within that. The plan, for augment_table():
///
///     {"feature", "target", "reliance" (of the model trained on the table as it is), "found", "expected", "proxies": [{"feature", "share"}, ...],
///      "steps": [{"step": "resample", ...}],
///      "measured": {"measure" ("accuracy" or "r2"), "before": {"strength": 0, "reliance", "half_width", "accuracy" or "r2"}, "after": {...}, "wanted_reliance", "reached" (true or false),
///                   "risen": [{"feature", "before", "after"}, ...] (shares of what the model leans on instead: where these are proxies, part of the reliance has moved into them),
///                   "trials": [{"strength", ...}, ...]}}
///
/// Refuses a feature that is not there, odd options, and what fit_table() refuses; a model that does not use the feature at all.
[[nodiscard]] base::Result<nlohmann::ordered_json> plan_augmentation(const formats::Table& table, const std::string& target, const std::string& feature, const PlanOptions& options = {});

}  // namespace deepseek::explain
