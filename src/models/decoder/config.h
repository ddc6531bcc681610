// What distinguishes one decoder-only model from another: Llama, Qwen2/2.5/3, Gemma 2/3 and what follows their layout.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "models/rope.h"

namespace deepseek::formats {
class Gguf;
class GgufMetadata;
}

namespace deepseek::models {

/// quantization_config's quant_method where safetensors hold GGUF's block types (formats::SafeTensors).
constexpr const char* kBlocksMethod = "deepseek_blocks";

enum class DecoderFamily { kLlama, kQwen2, kQwen3, kGemma2, kGemma3, kDeepseek };
[[nodiscard]] const char* family_name(DecoderFamily family);

struct DecoderConfig {
  DecoderFamily family = DecoderFamily::kLlama;
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, num_layers = 0;
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  bool attention_bias = false;           ///< bias on q, k, v (Qwen2) 
  bool attention_output_bias = false;    ///< bias on o (Llama with attention_bias)
  bool mlp_bias = false;
  bool qk_norm = false;                  ///< RMSNorm over head_dim on q and k (Qwen3, Gemma 3)
  bool norm_plus_one = false;            ///< Gemma: y = x / rms * (1 + w)
  bool post_norms = false;               ///< Gemma: norms after attention and after the feed-forward block
  bool gelu = false;                     ///< tanh-approximated GELU gate instead of SiLU
  double embedding_scale = 1.0;          ///< Gemma: sqrt(hidden_size), rounded to the embedding's type
  double attention_scale = 0.0;          ///< multiplies q k^T
  double attention_softcap = 0.0;        ///< 0: none
  double final_softcap = 0.0;
  int64_t sliding_window = 0;            ///< keys a sliding layer sees, its own included; 0: none
  std::vector<bool> sliding;             ///< per layer
  RopeConfig rope;                       ///< full-attention layers
  RopeConfig rope_sliding;               ///< sliding layers (Gemma 3 has another theta)
  std::vector<int64_t> eos_ids;
  int64_t bos_id = -1;

  [[nodiscard]] int64_t parameters() const;
};

/// A linear layer: y = W x, W [out, in].
struct LinearModule {
  std::string name;  ///< "model.layers.0.self_attn.q_proj"
  int64_t out = 0, in = 0;
};
/// All but the head, in order.
[[nodiscard]] std::vector<LinearModule> linear_modules(const DecoderConfig& config);

/// From a Hugging Face config.json (both the classic layout and Transformers 5's rope_parameters). Unknown architectures and
/// absurd sizes are refused with what is supported.
[[nodiscard]] base::Result<DecoderConfig> decoder_config_from_json(const nlohmann::ordered_json& json);
/// bos_token_id and eos_token_id (one or several) of a config.json.
void read_token_ids(const nlohmann::ordered_json& json, DecoderConfig& config);
[[nodiscard]] base::Result<DecoderConfig> decoder_config_from_gguf(const formats::Gguf& gguf);
/// The same as llama.cpp reads it, without general.*. Errors: what GGUF cannot say.
[[nodiscard]] base::Status decoder_config_to_gguf(const DecoderConfig& config, formats::GgufMetadata& out);
/// The config.json that Transformers reads back as the same model.
[[nodiscard]] nlohmann::ordered_json decoder_config_to_json(const DecoderConfig& config, const std::string& torch_dtype);

}  // namespace deepseek::models
