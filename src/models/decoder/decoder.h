// A decoder-only transformer from its configuration: forward over packed sequences, and step by step with a cache.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/decoder/config.h"
#include "models/indexer_reads.h"
#include "models/packed.h"
#include "nn/indexer.h"
#include "nn/linear.h"

namespace deepseek::models {

/// Keys and values of one sequence, and its indexers' keys. Grows as needed.
class KvCache {
 public:
  [[nodiscard]] int64_t length() const { return length_; }
  /// Forgets everything after the first `length` positions (the engine's prefix reuse).
  void truncate(int64_t length);

 private:
  friend class Decoder;
  struct Layer {
    at::Tensor k, v;     // [capacity, kv_heads, head_dim]
    at::Tensor index_k;  // [capacity, index_dim] f32, where the layer has an indexer
  };
  std::vector<Layer> layers_;
  int64_t length_ = 0;
};

/// One layer's weights; norms have undefined tensors where the family has none.
struct DecoderLayer {
  nn::Linear q, k, v, o, gate, up, down;
  at::Tensor input_norm, post_attention_norm, pre_feedforward_norm, post_feedforward_norm, q_norm, k_norm;
  std::optional<nn::LightningIndexer> indexer;  ///< trained beside the weights; not in a layer with a sliding window
};

/// Keys that the queries of one layer and sequence see, and what chose among them: what an indexer is trained on. Without a graph.
struct IndexerView {
  size_t layer = 0, sequence = 0;
  at::Tensor x, positions;  ///< [n, hidden], [n]: the input of LightningIndexer::project()
  at::Tensor q, k;          ///< [1, heads, n, head_dim], [1, kv_heads, n, head_dim], with rope
  at::Tensor keys;          ///< the lists that were read, [1, n, count] i32; undefined where all keys were
};
using IndexerWatch = std::function<void(const IndexerView&)>;

class Decoder {
 public:
  using Cache = KvCache;
  Decoder(DecoderConfig config, at::Tensor embedding, at::Tensor head, at::Tensor final_norm, std::vector<DecoderLayer> layers);

  /// Final hidden states (after the last norm): [T, hidden]. Differentiable in every LoRA parameter.
  /// checkpoint: recompute each layer in the backward pass instead of keeping its activations; works on the layers as they are then.
  /// watch: called for every sequence in every layer with an indexer; with checkpoint, in the backward pass.
  [[nodiscard]] at::Tensor hidden(const PackedSequences& batch, bool checkpoint = false, const IndexerWatch* watch = nullptr) const;
  /// Logits of hidden rows [n, hidden] -> [n, vocab] f32, final softcap applied. No gradient.
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden_rows) const;
  /// Feeds `tokens` after what the cache holds and returns the logits after the last one: [vocab] f32. No gradient.
  [[nodiscard]] at::Tensor step(const std::vector<int32_t>& tokens, KvCache& cache) const;
  /// As step(), logits after every one of `tokens`: [n, vocab] f32.
  [[nodiscard]] at::Tensor step_all(const std::vector<int32_t>& tokens, KvCache& cache) const;

  /// How layers with an indexer choose the keys that a query reads; the other layers read all.
  void set_reads(const IndexerReads& reads) { reads_ = reads; }
  [[nodiscard]] const IndexerReads& reads() const { return reads_; }
  [[nodiscard]] bool has_indexer() const;
  /// Frequencies of the indexers' rope, [dim / 2].
  [[nodiscard]] at::Tensor indexer_frequencies(const nn::LightningIndexer& indexer) const;
  /// Keys read by the layers with an indexer as a share of those visible, since the start.
  [[nodiscard]] double share_of_keys_read() const { return keys_.share(); }

  [[nodiscard]] const DecoderConfig& config() const { return config_; }
  [[nodiscard]] at::ScalarType dtype() const { return embedding_.scalar_type(); }
  [[nodiscard]] std::vector<DecoderLayer>& layers() { return layers_; }
  [[nodiscard]] const std::vector<DecoderLayer>& layers() const { return layers_; }
  [[nodiscard]] const at::Tensor& embedding() const { return embedding_; }
  [[nodiscard]] const at::Tensor& head() const { return head_; }
  [[nodiscard]] const at::Tensor& final_norm() const { return final_norm_; }

 private:
  [[nodiscard]] at::Tensor forward(const PackedSequences& batch, KvCache* cache, bool checkpoint, const IndexerWatch* watch) const;
  struct Pass;  // what every layer of one forward pass shares
  at::Tensor layer(size_t index, const at::Tensor& x, const Pass& pass) const;
  at::Tensor attention(size_t index, const at::Tensor& x, const Pass& pass) const;
  at::Tensor indexed_sequences(size_t index, const at::Tensor& x, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Pass& pass) const;
  at::Tensor indexed_step(size_t index, const at::Tensor& x, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Pass& pass) const;
  at::Tensor lists_of(const nn::LightningIndexer::Projected& rows, const at::Tensor& index_k, int64_t first) const;
  [[nodiscard]] int64_t rows_that_read_all(int64_t before, int64_t n) const;
  void count(int64_t before, int64_t n, int64_t dense, const at::Tensor& lists) const;

  DecoderConfig config_;
  at::Tensor embedding_, head_, final_norm_;
  std::vector<DecoderLayer> layers_;
  at::Tensor inverse_frequencies_, inverse_frequencies_sliding_;
  IndexerReads reads_;
  mutable KeysRead keys_;
};

}  // namespace deepseek::models
