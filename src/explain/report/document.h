// The explanation document as the reports read it: checked once, then plain structs.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace deepseek::explain {

struct ShownNode {
  std::string name;
  int parent = -1;
  int feature = -1;  ///< of a leaf; -1: a group
  int leaves = 0;    ///< below it, itself where it is one
  std::vector<int> children;
};

struct ShownInteraction {
  std::vector<int> nodes;  ///< two at least
  double value = 0, half_width = 0;
};

/// One sample. Vectors have one entry for each node; half width 0: exact.
struct ShownSample {
  int64_t sample = -1;
  double score = 0;
  std::optional<double> prediction;
  std::string actual;
  std::vector<nlohmann::ordered_json> inputs;  ///< number, string or null; null of groups
  std::vector<bool> missing;                   ///< the input is there and says nothing
  std::vector<double> values, half_widths;
  std::vector<ShownInteraction> interactions;
};

struct ShownPoint {
  int64_t sample = -1;
  std::vector<double> values;                  ///< of each node
  std::vector<nlohmann::ordered_json> inputs;  ///< of each node; null of groups
};

/// All samples. Vectors have one entry for each node.
struct ShownRows {
  int64_t rows = 0;
  std::vector<double> importance, half_widths, mean;
  std::vector<ShownInteraction> interactions;
  std::vector<ShownPoint> points;
};

struct Document {
  std::string model, kind, output, units = "score";
  int64_t outputs = 1;
  std::string data, target;
  int64_t data_rows = -1, background_rows = -1;
  std::string engine, worth, values, interactions;
  bool exact = false;
  double confidence = 0.95;
  int64_t coalitions = -1, seed = -1;
  std::vector<std::string> notes;
  std::vector<ShownNode> nodes;
  double base = 0;
  std::optional<ShownSample> local;
  std::optional<ShownRows> global;
};

/// Fails with the field that is absent or of another type, with a tree that is none, and with numbers that are not finite.
[[nodiscard]] base::Result<Document> read_document(const nlohmann::ordered_json& explanation);

}  // namespace deepseek::explain
