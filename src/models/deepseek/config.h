// What distinguishes DeepSeek-V2, V3 and V3.2: latent attention (MLA), mixture of experts, and the indexer of sparse attention (DSA).
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "models/decoder/config.h"
#include "models/rope.h"

namespace deepseek::models {

enum class DeepseekVersion { kV2, kV3, kV32 };

/// Source: the papers of DeepSeek-V2 (2405.04434), V3 (2412.19437) and V3.2-Exp.
struct DeepseekConfig {
  DeepseekVersion version = DeepseekVersion::kV3;
  DecoderConfig common;              ///< sizes that every decoder has; its head_dim is that of queries and keys
  // Latent attention.
  int64_t q_lora_rank = 0;           ///< 0: queries come straight from the hidden state
  int64_t kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0, qk_rope_head_dim = 0, v_head_dim = 0;
  bool rope_interleaved = true;      ///< pairs (2i, 2i + 1) of a checkpoint's rotary dimensions turn together
  double attention_scale = 0.0;      ///< multiplies q k^T; grows with YaRN
  // Mixture of experts.
  std::vector<bool> experts_in;      ///< per layer: experts in place of one feed-forward block
  int64_t num_experts = 0, experts_per_token = 0, num_shared_experts = 0, expert_size = 0;
  int64_t num_groups = 1, groups_per_token = 1;  ///< experts stand in groups, of which a token sees only some
  bool sigmoid_routing = true;       ///< V3: sigmoid scores, a bias that only chooses; V2: softmax
  bool normalize_routing = false;    ///< the chosen scores are divided by their sum
  double routing_scale = 1.0;
  // Indexer.
  int64_t index_heads = 0, index_dim = 0, index_top_k = 0;  ///< 0: none

  [[nodiscard]] bool has_indexer() const { return index_heads > 0; }
  [[nodiscard]] int64_t parameters() const;
};

/// Whether "model_type" is one of these.
[[nodiscard]] bool is_deepseek_type(std::string_view model_type);

/// From config.json, in the layout of the published models or of Transformers 5. Errors: what would be computed otherwise, absurd sizes.
[[nodiscard]] base::Result<DeepseekConfig> deepseek_config_from_json(const nlohmann::ordered_json& json);

}  // namespace deepseek::models
