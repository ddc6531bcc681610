// Any model of rows by its name: a file, a program, a server.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/result.h"
#include "explain/table_model.h"

namespace deepseek::explain {

struct ScorerOptions {
  std::vector<FeatureText> features;  ///< the columns of the data: what a model reads that names no features of its own
  std::string target;                 ///< the column of the data that is no feature; "" where there is none
  base::fs::path schema;              ///< a file of schema_json() with the features, categories and classes of the model; "": none
  std::vector<double> probe;          ///< a row of the data in the codes of `features`, which a model is tried with; empty: zeros and first categories
  double timeout = 60;                ///< seconds that a program or server may take for one batch
  int retries = 2;                    ///< after a failure of a program or server
  int64_t batch = 4096;               ///< rows that a program or server gets at a time
  std::function<bool()> stop_requested;
};

/// `model` is one of
///   http://, https://      a server that takes POST {"columns": [names], "rows": [[...]]} and answers {"scores": [...]} or {"scores": [[...]]}, and may name its "outputs"
///   command:PROGRAM ARGS   a program that reads one line of the same JSON for each batch and answers with one line
///   a file                 trees (XGBoost .json .ubj, LightGBM .txt), .onnx, TorchScript (.pt .pth), a linear model (.json with "weights")
///   a directory            what train_table() wrote
/// Errors name the model and say what is wrong with it; nothing of a hostile file, program or server ends this process.
[[nodiscard]] base::Result<TableModel> open_table_model(const std::string& model, const ScorerOptions& options = {});

}  // namespace deepseek::explain
