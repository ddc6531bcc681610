// What distinguishes one encoder from another: BERT, and RoBERTa and XLM-RoBERTa, which count positions from another place.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/result.h"

namespace deepseek::models {

struct BertConfig {
  std::string model_type;            ///< "bert", "roberta" or "xlm-roberta"
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, num_layers = 0, num_heads = 0;
  int64_t max_position_embeddings = 0, type_vocab_size = 0;
  double layer_norm_eps = 1e-12;
  std::string activation = "gelu";   ///< "gelu" (exact), "gelu_tanh" or "relu"
  int64_t pad_token_id = 0;

  /// RoBERTa's first position is the one behind the padding token's id, and a padding token in a text counts for no position.
  [[nodiscard]] bool positions_follow_padding() const { return model_type != "bert"; }
  /// Tokens that a sequence may have.
  [[nodiscard]] int64_t longest() const { return max_position_embeddings - (positions_follow_padding() ? pad_token_id + 1 : 0); }
  [[nodiscard]] int64_t head_dim() const { return hidden_size / num_heads; }
};

/// From a Hugging Face config.json. What would be computed otherwise than the model means it is refused: other architectures,
/// relative positions, other activations.
[[nodiscard]] base::Result<BertConfig> bert_config_from_json(const nlohmann::ordered_json& json);

/// Whether a config.json's model_type names an encoder, also one that cannot be read here: it has no text to generate.
[[nodiscard]] bool is_encoder_type(const std::string& model_type);

}  // namespace deepseek::models
