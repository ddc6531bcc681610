// fine-tune's options that train the indexers of sparse attention.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "train/trainer.h"

namespace deepseek::cli {

struct IndexerArguments {
  std::string stage;
  models::IndexerConfig config{.top_k = 0};
  const CLI::App* group = nullptr;
};

void add_indexer_options(CLI::App& app, IndexerArguments& a);

/// Into the run's options, with defaults for long windows where `app` was not given another: context 4,096, batches of 2, and for a warm-up a
/// learning rate of 1e-3. Errors: an unknown stage, options without --dsa, a shape beside --init_adapter that decides it.
[[nodiscard]] base::Status resolve_indexer(const IndexerArguments& a, const CLI::App& app, int64_t& context, train::TrainOptions& options);

/// Trained parameters of indexers on a model that is not loaded.
[[nodiscard]] base::Result<int64_t> indexer_parameters(const models::DecoderConfig& model, const models::IndexerConfig& indexer);

}  // namespace deepseek::cli
