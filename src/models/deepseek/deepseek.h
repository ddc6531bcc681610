// DeepSeek-V2, V3 and V3.2 in libtorch: forward over packed sequences, and step by step with a cache of latents. Inference only.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/deepseek/config.h"
#include "models/indexer_reads.h"
#include "models/packed.h"
#include "models/weights.h"

namespace deepseek::models {

/// What one sequence leaves behind: per layer a latent from which keys and values of all heads come, the rotated key they share, and the
/// indexer's key.
class DeepseekCache {
 public:
  [[nodiscard]] int64_t length() const { return length_; }
  /// Forgets everything after the first `length` positions.
  void truncate(int64_t length);

 private:
  friend class Deepseek;
  struct Layer {
    at::Tensor latents;     // [capacity, kv_lora_rank + qk_rope_head_dim]
    at::Tensor index_keys;  // [capacity, index_dim]
  };
  std::vector<Layer> layers_;
  int64_t length_ = 0;
};

/// Weights as a checkpoint has them, [out, in]; undefined where a layer has none.
struct DeepseekIndexer {
  at::Tensor wq_b, wk, k_norm, k_norm_bias;
  at::Tensor weights_proj;  ///< f32
};
struct DeepseekAttention {
  at::Tensor q_proj;                       ///< without a query latent
  at::Tensor q_a_proj, q_a_norm, q_b_proj;
  at::Tensor kv_a_proj, kv_a_norm, kv_b_proj, o_proj;
  DeepseekIndexer indexer;
};
struct FeedForward {
  at::Tensor gate, up, down;
};
struct DeepseekExperts {
  at::Tensor router, router_bias;  ///< f32; the bias only chooses
  std::vector<FeedForward> experts;
};
struct DeepseekLayer {
  at::Tensor input_norm, post_attention_norm;
  DeepseekAttention attention;
  FeedForward dense;                       ///< the layer's feed-forward block, or its shared experts as one
  std::optional<DeepseekExperts> experts;
};
struct DeepseekWeights {
  at::Tensor embedding, head, final_norm;
  std::vector<DeepseekLayer> layers;
};

/// One at a time: forward passes count what they read.
class Deepseek {
 public:
  using Cache = DeepseekCache;
  /// The model's own way of reading: its indexer's top-k where it has one.
  Deepseek(DeepseekConfig config, DeepseekWeights weights);

  /// "auto" (the model's own), "dense", "dsa:top_k=N" or "dsa:top_p=P" by the indexer. Errors: another name, a model without an indexer.
  [[nodiscard]] base::Status set_attention(const std::string& name);

  /// Final hidden states (after the last norm): [T, hidden]. No gradient.
  [[nodiscard]] at::Tensor hidden(const PackedSequences& batch) const;
  /// Feeds `tokens` after what the cache holds; logits after the last one, [vocab] f32, or after each, [n, vocab].
  [[nodiscard]] at::Tensor step(const std::vector<int32_t>& tokens, DeepseekCache& cache) const;
  [[nodiscard]] at::Tensor step_all(const std::vector<int32_t>& tokens, DeepseekCache& cache) const;

  [[nodiscard]] const DecoderConfig& config() const { return config_.common; }
  [[nodiscard]] const DeepseekConfig& deepseek_config() const { return config_; }
  [[nodiscard]] const at::Tensor& head() const { return weights_.head; }
  /// Of all that was fed so far, the keys that were read of those that were visible.
  [[nodiscard]] double share_of_keys_read() const { return keys_.share(); }

 private:
  [[nodiscard]] IndexerReads own_reads() const { return {config_.has_indexer(), {.value = static_cast<double>(config_.index_top_k)}}; }
  [[nodiscard]] at::Tensor forward(const std::vector<int64_t>& tokens, DeepseekCache& cache) const;
  [[nodiscard]] at::Tensor attention(const DeepseekAttention& w, const at::Tensor& x, const at::Tensor& positions, DeepseekCache::Layer& cached, int64_t before) const;
  [[nodiscard]] at::Tensor attend(const DeepseekAttention& w, const at::Tensor& q, const at::Tensor& latents) const;
  [[nodiscard]] at::Tensor attend_absorbed(const DeepseekAttention& w, const at::Tensor& q, const at::Tensor& latents, const at::Tensor& lists) const;
  [[nodiscard]] at::Tensor named_keys(const DeepseekIndexer& w, const at::Tensor& x, const at::Tensor& query_latent, const at::Tensor& positions,
                                      const at::Tensor& index_keys, int64_t first) const;
  [[nodiscard]] at::Tensor rotated(const at::Tensor& x, const at::Tensor& positions, bool interleaved) const;

  DeepseekConfig config_;
  DeepseekWeights weights_;
  IndexerReads reads_;
  at::Tensor frequencies_;
  mutable KeysRead keys_;
};

/// From a Hugging Face directory; layers for multi-token prediction behind the last are left unread. Errors: another architecture, missing
/// tensors or shards, wrong shapes, NaN.
[[nodiscard]] base::Result<std::unique_ptr<Deepseek>> load_deepseek(const base::fs::path& path, const WeightOptions& options = {});

/// A token's experts and their weights: scores [T, experts] of the router -> indices [T, k] i64, weights [T, k] f32.
/// Sources: DeepSeek-V2, section 2.2 (softmax, groups by their best); V3, section 2.1.2 (sigmoid, groups by their best two, bias).
std::pair<at::Tensor, at::Tensor> route(const DeepseekConfig& config, const at::Tensor& logits, const at::Tensor& bias);

}  // namespace deepseek::models
