// What stands for a feature when it is taken away: how well the others foretell it, and which of them.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "explain/training/train_table.h"
#include "formats/table/table.h"

namespace deepseek::explain {

struct ProxyOptions {
  std::string target;          ///< of the model in question, which is no proxy; "": none
  size_t most = 5;             ///< proxies that are named
  Learner learner = Learner::kTrees;
  int64_t rounds = 50;         ///< at most
  int64_t most_rows = 10000;   ///< of the table; more are sampled
  int64_t explained = 200;     ///< rows over which the proxies' shares are taken
  int64_t background = 50;
  uint64_t seed = 0;
  int threads = 0;
  std::function<bool()> stop_requested;
};

struct Proxy {
  std::string feature;
  double share = 0, half_width = 0;  ///< of what moves the prediction of the feature, with an interval at 95%
};

struct ProxyReport {
  std::string feature;
  nlohmann::ordered_json report;  ///< train_table()'s, of the feature as the target
  std::string measure;            ///< "accuracy", or "r2" of a number
  double reached = 0, without = 0;  ///< that measure on held-out rows: by the other features, and by the most frequent category or the mean alone
  double skill = 0;               ///< share of what `without` leaves open that the others foretell; 0 and below: the feature has no proxies
  std::vector<Proxy> proxies;     ///< strongest first; none where skill is 0 or below
};

/// Trains a model of the feature on all other columns and explains it. Refuses a feature that is not there or is the target, and what fit_table() refuses.
[[nodiscard]] base::Result<ProxyReport> find_proxies(const formats::Table& table, const std::string& feature, const ProxyOptions& options = {});

/// {"feature", "measure", "reached", "without", "skill", "auc" (absent: none), "proxies": [{"feature", "share", "half_width"}, ...]}
[[nodiscard]] nlohmann::ordered_json proxies_json(const ProxyReport& report);

}  // namespace deepseek::explain
