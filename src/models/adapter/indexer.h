// Trained indexers of a decoder: untrained ones for its layers, written and read beside the LoRA adapter's files.
#pragma once

#include <string>
#include <vector>

#include "models/adapter/config.h"
#include "models/adapter/tensors.h"
#include "models/decoder/decoder.h"

namespace deepseek::models {

struct IndexerConfig {
  std::string base_model;
  int64_t heads = 8;      ///< index_n_heads
  int64_t dim = 64;       ///< index_head_dim; rope turns the first half
  int64_t top_k = 512;    ///< index_topk: keys of a query where the user asks for no other number
  std::string stage;      ///< "warmup" or "sparse": what trained it last
};

/// Errors: 0 or odd sizes, more than 128 heads, 1,024 dimensions, or 2^20 keys.
[[nodiscard]] base::Status check_indexer_config(const IndexerConfig& config);

/// Layers that can have an indexer: those without a sliding window. Errors: none, or scores with a softcap, which the sparse kernels lack.
[[nodiscard]] base::Result<std::vector<size_t>> indexed_layers(const DecoderConfig& config);

/// Untrained indexers on those layers: matrices uniform in +-1/sqrt(hidden), the norm 1 and 0. Values depend on the seed and the layer alone.
[[nodiscard]] base::Status attach_indexers(Decoder& decoder, const IndexerConfig& config, uint64_t seed);

/// Puts the indexers of a directory on the decoder. Errors: another model's, tensors that are missing, too many, of a wrong shape or not finite.
[[nodiscard]] base::Result<IndexerConfig> read_indexers(Decoder& decoder, const base::fs::path& directory);
/// Both files, each atomically, the weights last.
[[nodiscard]] base::Status write_indexers(const Decoder& decoder, const IndexerConfig& config, const base::fs::path& directory);

/// "model.layers.5.self_attn.indexer.wq.weight", ... in the order of the layers.
[[nodiscard]] NamedTensors indexer_tensors(const Decoder& decoder);

}  // namespace deepseek::models
