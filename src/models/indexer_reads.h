// What the queries of a model read where its layers have a lightning indexer.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "base/result.h"
#include "kernels/sparse_attention/indexer.h"

namespace deepseek::models {

/// All keys, or those that the indexer names. Up to as many positions as it would name anyway a query reads all.
struct IndexerReads {
  bool sparse = false;
  kernels::IndexerOptions indexer;
  [[nodiscard]] int64_t all_below() const { return indexer.mode == kernels::IndexerOptions::Mode::kTopK ? static_cast<int64_t>(indexer.value) : indexer.most; }
};

/// "auto" and "dsa" (the indexer's own top-k), "dense", "dsa:top_k=N", "dsa:top_p=P" (no more keys than its own top-k). Errors: another name.
[[nodiscard]] base::Result<IndexerReads> indexer_reads_named(const std::string& name, int64_t own_top_k);

/// Keys read beside those visible.
struct KeysRead {
  int64_t read = 0, visible = 0;
  /// Queries that follow `before` positions, one behind the other, each with all that it sees.
  void all(int64_t before, int64_t queries) { read += queries * before + queries * (queries + 1) / 2; }
  void see(int64_t before, int64_t queries) { visible += queries * before + queries * (queries + 1) / 2; }
  [[nodiscard]] double share() const { return visible == 0 ? 1.0 : static_cast<double>(read) / static_cast<double>(visible); }
};

/// Writes rows [n, ...] behind the `before` first ones of a cache, growing it where needed; returns all of them.
at::Tensor append_rows(at::Tensor& cached, const at::Tensor& rows, int64_t before);

}  // namespace deepseek::models
