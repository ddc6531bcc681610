// A decoder's configuration as GGUF metadata, read and written.
#include <algorithm>
#include <cmath>

#include "formats/weights/gguf_write.h"
#include "models/bert/config.h"
#include "models/decoder/families.h"

namespace deepseek::models {

using base::fail;
using base::Result;

Result<DecoderConfig> decoder_config_from_gguf(const formats::Gguf& gguf) {
  const std::string arch = gguf.text("general.architecture");
  DecoderConfig c;
  bool known = false;
  for (const auto& row : kFamilies) {
    if (arch == row.name) {
      c.family = row.family;
      known = true;
    }
  }
  if (!known && is_encoder_type(arch)) {
    return base::refuse("{}: this model ('{}') is an encoder, it has no text to generate; name a decoder: {}", gguf.file().path().string(), arch, kSupported);
  }
  if (!known) return fail("{}: architecture '{}' is not supported; supported are {}", gguf.file().path().string(), arch, kSupported);
  const auto integer = [&](const char* key, int64_t fallback) { return gguf.integer(arch + "." + key, fallback); };
  const auto number = [&](const char* key, double fallback) { return gguf.number(arch + "." + key, fallback); };
  const auto* embedding = gguf.find("token_embd.weight");
  c.vocab_size = embedding != nullptr && embedding->shape.size() == 2 ? embedding->shape[0] : 0;
  c.hidden_size = integer("embedding_length", 0);
  c.intermediate_size = integer("feed_forward_length", 0);
  c.num_layers = integer("block_count", 0);
  c.num_heads = integer("attention.head_count", 0);
  c.num_kv_heads = integer("attention.head_count_kv", c.num_heads);
  c.head_dim = integer("attention.key_length", c.num_heads > 0 ? c.hidden_size / c.num_heads : 0);
  c.max_position_embeddings = integer("context_length", 2048);
  c.rms_norm_eps = number("attention.layer_norm_rms_epsilon", 1e-6);
  c.tie_word_embeddings = gguf.find("output.weight") == nullptr;
  c.attention_bias = gguf.find("blk.0.attn_q.bias") != nullptr;
  c.attention_output_bias = gguf.find("blk.0.attn_output.bias") != nullptr;
  apply_family(c);
  if (auto valid = check_sizes(c); !valid) return within(gguf.file().path().string(), valid.error());
  c.attention_scale = implied_attention_scale(c);
  if (c.family == DecoderFamily::kGemma2) {
    c.attention_softcap = number("attn_logit_softcapping", 50.0);
    c.final_softcap = number("final_logit_softcapping", 30.0);
  }
  if (c.norm_plus_one) c.sliding_window = integer("attention.sliding_window", 0);
  default_sliding(c, 6);
  c.rope.theta = number("rope.freq_base", c.family == DecoderFamily::kGemma3 ? 1e6 : 10000.0);
  const std::string scaling = gguf.text(arch + ".rope.scaling.type");
  if (scaling == "linear") {
    c.rope.scaling = scaling;
    c.rope.factor = number("rope.scaling.factor", 1.0);
  } else if (!scaling.empty() && scaling != "none") {
    return fail("{}: rope scaling '{}' is not supported; supported are linear and llama3", gguf.file().path().string(), scaling);
  }
  if (const auto* stored = gguf.find("rope_freqs.weight"); stored != nullptr) {
    // Llama 3's rule is stored as the factors that it gives. Its parameters are needed where the model becomes a directory: Meta's own.
    c.rope.scaling = "llama3";
    c.rope.factors.resize(static_cast<size_t>(stored->elements()));
    const bool fits = stored->elements() == c.head_dim / 2 && formats::dequantize(*stored, c.rope.factors);
    const bool sound = fits && std::all_of(c.rope.factors.begin(), c.rope.factors.end(), [](float factor) { return factor > 0 && std::isfinite(factor); });
    if (!sound) return fail("{}: rope_freqs.weight must hold {} positive factors; the file is damaged", gguf.file().path().string(), c.head_dim / 2);
    c.rope.factor = c.max_position_embeddings > 8192 && c.num_layers <= 28 ? 32.0 : 8.0;
  }
  c.rope_sliding = c.rope;
  if (c.family == DecoderFamily::kGemma3) c.rope_sliding = RopeConfig{.theta = number("rope.freq_base_swa", 10000.0), .scaling = ""};
  c.bos_id = gguf.integer("tokenizer.ggml.bos_token_id", -1);
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    const int64_t id = gguf.integer(key, -1);
    if (id >= 0 && id < c.vocab_size && std::find(c.eos_ids.begin(), c.eos_ids.end(), id) == c.eos_ids.end()) c.eos_ids.push_back(id);
  }
  return c;
}

base::Status decoder_config_to_gguf(const DecoderConfig& c, formats::GgufMetadata& out) {
  DecoderConfig implied = c;
  default_sliding(implied, 6);
  if (std::abs(implied_attention_scale(c) / c.attention_scale - 1) > 1e-6) return fail("GGUF cannot say that attention is scaled by {:.6g}; write a directory instead", c.attention_scale);
  if (c.sliding_window > 0 && implied.sliding != c.sliding) return fail("GGUF cannot say which layers of this model slide; write a directory instead");
  if (c.mlp_bias) return fail("GGUF has no biases in feed-forward blocks; write a directory instead");
  const std::string arch = family_name(c.family);
  const auto integer = [&](const char* key, int64_t value) { out.integer(arch + "." + key, static_cast<uint32_t>(value)); };
  const auto number = [&](const char* key, double value) { out.number(arch + "." + key, static_cast<float>(value)); };
  integer("context_length", c.max_position_embeddings);
  integer("embedding_length", c.hidden_size);
  integer("block_count", c.num_layers);
  integer("feed_forward_length", c.intermediate_size);
  integer("attention.head_count", c.num_heads);
  integer("attention.head_count_kv", c.num_kv_heads);
  integer("attention.key_length", c.head_dim);
  integer("attention.value_length", c.head_dim);
  number("attention.layer_norm_rms_epsilon", c.rms_norm_eps);
  number("rope.freq_base", c.rope.theta);
  integer("rope.dimension_count", c.head_dim);
  integer("vocab_size", c.vocab_size);
  if (c.rope.scaling == "linear") {
    out.text(arch + ".rope.scaling.type", "linear");
    number("rope.scaling.factor", c.rope.factor);
  }
  if (c.sliding_window > 0) integer("attention.sliding_window", c.sliding_window);
  if (c.family == DecoderFamily::kGemma3) number("rope.freq_base_swa", c.rope_sliding.theta);
  if (c.attention_softcap > 0) number("attn_logit_softcapping", c.attention_softcap);
  if (c.final_softcap > 0) number("final_logit_softcapping", c.final_softcap);
  return {};
}

}  // namespace deepseek::models
