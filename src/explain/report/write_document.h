// Explanations as the JSON document that the reports, the command and a server share.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "explain/explainer.h"

namespace deepseek::explain {

/// What an explanation says about where it comes from; numbers below 0 and empty texts are not written.
struct Origin {
  std::string model, kind, output;  ///< the model's name, what it is, and which of its outputs is explained
  int64_t outputs = 1;
  std::string units = "score";      ///< of every value: "log-odds", "probability", "score", "log-probability", "log"
  std::string data, target;
  int64_t data_rows = -1, background_rows = -1;
  std::string engine, worth;        ///< for people; worth: "marginal", "path dependent", "conditional", "baseline", "taken out", "filled", "blurred", "mean colour"
  std::string values = "Shapley";   ///< or "Winter"
  std::string interactions;         ///< "SII", "Faith-SHAP"
  double confidence = 0.95;
  uint64_t seed = 0;
  std::vector<std::string> notes;   ///< what a reader must know to trust it
};

/// Engine, index of the interactions, and a note where `precision` was not reached.
void describe_estimate(Origin& origin, const Estimate& estimate, double precision);

/// One sample as people read it.
struct SampleText {
  int64_t sample = -1;                         ///< its row; -1: it has none
  std::vector<nlohmann::ordered_json> inputs;  ///< [features]: number, text or null; empty: none are shown
  std::optional<double> prediction;            ///< where the score is no prediction itself: the probability
  std::string actual;                          ///< what the data say; "" where they do not
};

/// The document of one sample. Groups that the estimate left closed stand as one leaf, named with the number of their features.
[[nodiscard]] nlohmann::ordered_json document_of(const Origin& origin, const FeatureTree& tree, const LocalExplanation& local, const SampleText& sample);
/// The document of many rows; samples [rows explained]. Below a group that is closed in every row there is nothing; in some rows, their features count with 0.
[[nodiscard]] nlohmann::ordered_json document_of(const Origin& origin, const FeatureTree& tree, const GlobalExplanation& global, const std::vector<SampleText>& samples);

}  // namespace deepseek::explain
