#include "models/decoder/families.h"

#include <cmath>

namespace deepseek::models {

const char* family_name(DecoderFamily family) { return family == DecoderFamily::kDeepseek ? "deepseek" : row_of(family).name; }

base::Status check_sizes(const DecoderConfig& c) {
  const std::array<std::pair<const char*, int64_t>, 8> sizes{{{"vocab_size", c.vocab_size}, {"hidden_size", c.hidden_size},
      {"intermediate_size", c.intermediate_size}, {"num_hidden_layers", c.num_layers}, {"num_attention_heads", c.num_heads},
      {"num_key_value_heads", c.num_kv_heads}, {"head_dim", c.head_dim}, {"max_position_embeddings", c.max_position_embeddings}}};
  for (const auto& [name, value] : sizes) {
    if (value <= 0) return base::fail("{} is {}; a decoder needs a positive size there", name, value);
    if (value > (int64_t{1} << 31)) return base::fail("{} is {}, more than any model has", name, value);
  }
  if (c.num_layers > 4096) return base::fail("num_hidden_layers is {}, more than any model has", c.num_layers);
  if (c.num_heads % c.num_kv_heads != 0) {
    return base::fail("num_attention_heads {} is no multiple of num_key_value_heads {}", c.num_heads, c.num_kv_heads);
  }
  if (c.head_dim % 2 != 0) return base::fail("head_dim {} is odd; rotary embedding needs pairs", c.head_dim);
  if (!(c.rms_norm_eps > 0 && c.rms_norm_eps < 1)) return base::fail("rms_norm_eps {} is not in (0, 1)", c.rms_norm_eps);
  if (!(c.rope.theta > 0) || !(c.rope_sliding.theta > 0)) return base::fail("rope_theta must be positive");
  if (!(c.attention_softcap >= 0) || !(c.final_softcap >= 0)) return base::fail("a soft cap of the logits must be positive");
  if (c.sliding_window < 0) return base::fail("sliding_window is {}; it must be positive", c.sliding_window);
  return {};
}

void apply_family(DecoderConfig& c) {
  const bool gemma = c.family == DecoderFamily::kGemma2 || c.family == DecoderFamily::kGemma3;
  c.norm_plus_one = c.post_norms = c.gelu = gemma;
  c.qk_norm = c.family == DecoderFamily::kQwen3 || c.family == DecoderFamily::kGemma3;
  if (gemma) c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
}

void default_sliding(DecoderConfig& c, int64_t pattern) {
  c.sliding.assign(c.num_layers, false);
  if (c.sliding_window <= 0) return;
  for (int64_t i = 0; i < c.num_layers; ++i) {
    if (c.family == DecoderFamily::kGemma2) c.sliding[i] = i % 2 == 0;
    if (c.family == DecoderFamily::kGemma3) c.sliding[i] = pattern > 0 && (i + 1) % pattern != 0;
  }
}

double implied_attention_scale(const DecoderConfig& c) {
  // The two 27B models divide by hidden / heads instead of head_dim.
  const bool big = (c.family == DecoderFamily::kGemma2 && c.num_layers == 46) || (c.family == DecoderFamily::kGemma3 && c.num_layers == 62);
  return 1.0 / std::sqrt(static_cast<double>(big ? c.hidden_size / c.num_heads : c.head_dim));
}

}  // namespace deepseek::models
