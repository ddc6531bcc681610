#include "models/decoder/config.h"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "models/bert/config.h"
#include "models/decoder/families.h"
#include "models/deepseek/config.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
using base::value_or;
using json = nlohmann::ordered_json;

constexpr const char* kScalings = "linear, llama3";

// A field of another type would silently become its default.
base::Status check_types(const json& j) {
  constexpr std::array kIntegers{"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                                 "head_dim", "max_position_embeddings", "sliding_window", "max_window_layers", "sliding_window_pattern"};
  constexpr std::array kNumbers{"rms_norm_eps", "rope_theta", "rope_local_base_freq", "query_pre_attn_scalar", "attn_logit_softcapping",
                                "final_logit_softcapping"};
  const auto wrong = [&](const char* key, bool integer) {
    const auto found = j.find(key);
    if (found == j.end() || found->is_null() || found->is_number_integer() || (!integer && found->is_number())) return std::string();
    return fmt::format("{} is {}, which is no {}", key, found->dump().substr(0, 40), integer ? "whole number" : "number");
  };
  for (const char* key : kIntegers) {
    if (const auto text = wrong(key, true); !text.empty()) return fail("{}", text);
  }
  for (const char* key : kNumbers) {
    if (const auto text = wrong(key, false); !text.empty()) return fail("{}", text);
  }
  return {};
}

// What the configuration asks for and this decoder would compute wrongly.
base::Status check_supported(const json& j, bool gemma) {
  if (const auto found = j.find("quantization_config"); found != j.end() && found->is_object() &&
      value_or<std::string>(*found, "quant_method", "?") != kBlocksMethod) {
    return fail("weights quantised by '{}' are not supported; use the model's plain copy or a .gguf",
                value_or<std::string>(*found, "quant_method", "?"));
  }
  for (const char* key : {"hidden_act", "hidden_activation"}) {
    const std::string asked = value_or<std::string>(j, key, "");
    // Gemma's first configurations say "gelu" and mean its tanh form, as Transformers reads them.
    const bool known = asked.empty() || (gemma ? asked.starts_with("gelu") : asked == "silu" || asked == "swish");
    if (!known) return fail("{} '{}' is not supported; a model of this kind has {}", key, asked, gemma ? "gelu_pytorch_tanh" : "silu");
  }
  return {};
}

// Classic layout: rope_theta, rope_scaling, rope_local_base_freq. Transformers 5: rope_parameters, for Gemma 3 one per kind of layer.
base::Status read_rope(const json& j, DecoderConfig& c) {
  RopeConfig plain;
  plain.theta = value_or(j, "rope_theta", c.family == DecoderFamily::kGemma3 ? 1e6 : 10000.0);
  const json none = json::object();
  const json& scaling = j.contains("rope_scaling") ? j["rope_scaling"] : none;
  auto full = rope_from_json(scaling, plain, kScalings, c.max_position_embeddings);
  RopeConfig local = plain;
  local.theta = value_or(j, "rope_local_base_freq", c.family == DecoderFamily::kGemma3 ? 10000.0 : plain.theta);
  Result<RopeConfig> sliding = local;
  if (c.family != DecoderFamily::kGemma3) sliding = full;
  if (const auto found = j.find("rope_parameters"); found != j.end() && found->is_object()) {
    const bool by_kind = found->contains("full_attention") || found->contains("sliding_attention");
    full = rope_from_json(by_kind ? found->value("full_attention", none) : *found, plain, kScalings, c.max_position_embeddings);
    sliding = rope_from_json(by_kind ? found->value("sliding_attention", none) : *found, by_kind ? local : plain, kScalings, c.max_position_embeddings);
  }
  if (!full) return pass(full);
  if (!sliding) return pass(sliding);
  c.rope = *full;
  c.rope_sliding = *sliding;
  return {};
}

base::Status read_sliding(const json& j, DecoderConfig& c) {
  c.sliding_window = value_or<int64_t>(j, "sliding_window", 0);
  if (c.family == DecoderFamily::kLlama) c.sliding_window = 0;
  const bool qwen = c.family == DecoderFamily::kQwen2 || c.family == DecoderFamily::kQwen3;
  if (qwen && !value_or(j, "use_sliding_window", false)) c.sliding_window = 0;
  default_sliding(c, value_or<int64_t>(j, "sliding_window_pattern", value_or<int64_t>(j, "_sliding_window_pattern", 6)));
  if (qwen && c.sliding_window > 0) {
    const int64_t first = value_or<int64_t>(j, "max_window_layers", 28);
    for (int64_t i = 0; i < c.num_layers; ++i) c.sliding[i] = i >= first;
  }
  const auto types = j.find("layer_types");
  if (types == j.end() || types->is_null()) return {};
  if (!types->is_array() || static_cast<int64_t>(types->size()) != c.num_layers) {
    return fail("layer_types must name a type for each of the {} layers", c.num_layers);
  }
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const json& type = (*types)[i];
    if (type != "sliding_attention" && type != "full_attention") {
      return fail("layer_types has {}; supported are full_attention and sliding_attention", type.dump().substr(0, 40));
    }
    c.sliding[i] = c.sliding_window > 0 && type == "sliding_attention";
  }
  return {};
}

}  // namespace

void read_token_ids(const json& j, DecoderConfig& c) {
  c.bos_id = value_or<int64_t>(j, "bos_token_id", -1);
  const auto eos = j.find("eos_token_id");
  if (eos == j.end()) return;
  if (eos->is_number_integer()) c.eos_ids = {eos->get<int64_t>()};
  if (!eos->is_array()) return;
  for (const auto& id : *eos) {
    if (id.is_number_integer()) c.eos_ids.push_back(id.get<int64_t>());
  }
}

namespace {

Result<DecoderFamily> family_from(const json& j) {
  const std::string type = value_or<std::string>(j, "model_type", "");
  for (const auto& row : kFamilies) {
    if (type == row.model_type || type == row.name) return row.family;
  }
  if (is_encoder_type(type)) return base::refuse("this model ('{}') is an encoder, it has no text to generate; name a decoder: {}", type, kSupported);
  if (is_deepseek_type(type)) return base::refuse("this model ('{}') is run by generate, chat and eval; name one of {} here", type, kSupported);
  return fail("model type '{}' is not supported; supported are {}, deepseek_v2, deepseek_v3, deepseek_v32", type, kSupported);
}

}  // namespace

int64_t DecoderConfig::parameters() const {
  const int64_t q = num_heads * head_dim, kv = num_kv_heads * head_dim;
  int64_t layer = hidden_size * (2 * q + 2 * kv) + 3 * hidden_size * intermediate_size + (post_norms ? 4 : 2) * hidden_size;
  if (qk_norm) layer += 2 * head_dim;
  if (attention_bias) layer += q + 2 * kv;
  if (attention_output_bias) layer += hidden_size;
  if (mlp_bias) layer += 2 * intermediate_size + hidden_size;
  return num_layers * layer + hidden_size + vocab_size * hidden_size * (tie_word_embeddings ? 1 : 2);
}

std::vector<LinearModule> linear_modules(const DecoderConfig& c) {
  const int64_t q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  std::vector<LinearModule> modules;
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    modules.push_back({layer + "self_attn.q_proj", q, c.hidden_size});
    modules.push_back({layer + "self_attn.k_proj", kv, c.hidden_size});
    modules.push_back({layer + "self_attn.v_proj", kv, c.hidden_size});
    modules.push_back({layer + "self_attn.o_proj", c.hidden_size, q});
    modules.push_back({layer + "mlp.gate_proj", c.intermediate_size, c.hidden_size});
    modules.push_back({layer + "mlp.up_proj", c.intermediate_size, c.hidden_size});
    modules.push_back({layer + "mlp.down_proj", c.hidden_size, c.intermediate_size});
  }
  return modules;
}

Result<DecoderConfig> decoder_config_from_json(const json& outer) {
  if (!outer.is_object()) return fail("config.json is no JSON object");
  const bool nested = value_or<std::string>(outer, "model_type", "") == "gemma3" && outer.contains("text_config");
  const json& j = nested ? outer["text_config"] : outer;
  DecoderConfig c;
  auto family = family_from(j.contains("model_type") ? j : outer);
  if (!family) return pass(family);
  c.family = *family;
  const bool gemma = c.family == DecoderFamily::kGemma2 || c.family == DecoderFamily::kGemma3;
  if (auto sound = check_types(j); !sound) return pass(sound);
  if (auto sound = check_supported(outer.contains("quantization_config") ? outer : j, gemma); !sound) return pass(sound);
  c.vocab_size = value_or<int64_t>(j, "vocab_size", gemma ? 262208 : 0);
  c.hidden_size = value_or<int64_t>(j, "hidden_size", 0);
  c.intermediate_size = value_or<int64_t>(j, "intermediate_size", 0);
  c.num_layers = value_or<int64_t>(j, "num_hidden_layers", 0);
  c.num_heads = value_or<int64_t>(j, "num_attention_heads", c.family == DecoderFamily::kGemma3 ? 8 : 0);
  c.num_kv_heads = value_or<int64_t>(j, "num_key_value_heads", c.family == DecoderFamily::kGemma3 ? 4 : c.num_heads);
  c.head_dim = value_or<int64_t>(j, "head_dim", gemma ? 256 : (c.num_heads > 0 ? c.hidden_size / c.num_heads : 0));
  c.max_position_embeddings = value_or<int64_t>(j, "max_position_embeddings", gemma ? 8192 : 2048);
  c.rms_norm_eps = value_or(j, "rms_norm_eps", 1e-6);
  c.tie_word_embeddings = value_or(j, "tie_word_embeddings", gemma);
  const bool bias = value_or(j, "attention_bias", false);
  c.attention_bias = bias || c.family == DecoderFamily::kQwen2;
  c.attention_output_bias = bias && c.family != DecoderFamily::kQwen2;
  c.mlp_bias = value_or(j, "mlp_bias", false);
  apply_family(c);
  if (auto valid = check_sizes(c); !valid) return pass(valid);
  if (gemma && !(value_or(j, "query_pre_attn_scalar", 256.0) > 0)) return fail("query_pre_attn_scalar must be positive");
  c.attention_scale = 1.0 / std::sqrt(gemma ? value_or(j, "query_pre_attn_scalar", 256.0) : static_cast<double>(c.head_dim));
  if (gemma) {
    // Only Gemma 2 caps where nothing is said; null means no cap.
    const auto cap = [&](const char* key, double gemma2) {
      return value_or(j, key, c.family == DecoderFamily::kGemma2 && !j.contains(key) ? gemma2 : 0.0);
    };
    c.attention_softcap = cap("attn_logit_softcapping", 50.0);
    c.final_softcap = cap("final_logit_softcapping", 30.0);
  }
  if (auto sliding = read_sliding(j, c); !sliding) return pass(sliding);
  if (auto rope = read_rope(j, c); !rope) return pass(rope);
  read_token_ids(j, c);
  if (auto valid = check_sizes(c); !valid) return pass(valid);
  return c;
}

json decoder_config_to_json(const DecoderConfig& c, const std::string& torch_dtype) {
  const bool gemma = c.norm_plus_one;
  json j{{"architectures", {row_of(c.family).architecture}}, {"model_type", row_of(c.family).model_type}, {"torch_dtype", torch_dtype},
         {"vocab_size", c.vocab_size}, {"hidden_size", c.hidden_size}, {"intermediate_size", c.intermediate_size},
         {"num_hidden_layers", c.num_layers}, {"num_attention_heads", c.num_heads}, {"num_key_value_heads", c.num_kv_heads},
         {"head_dim", c.head_dim}, {"max_position_embeddings", c.max_position_embeddings}, {"rms_norm_eps", c.rms_norm_eps},
         {"tie_word_embeddings", c.tie_word_embeddings}, {"attention_bias", c.attention_bias && c.family != DecoderFamily::kQwen2}};
  j[gemma ? "hidden_activation" : "hidden_act"] = gemma ? "gelu_pytorch_tanh" : "silu";
  if (c.family == DecoderFamily::kLlama) j["mlp_bias"] = c.mlp_bias;
  if (gemma) {
    j["query_pre_attn_scalar"] = std::llround(1.0 / (c.attention_scale * c.attention_scale));  // Transformers 5 takes nothing but whole numbers
    j["attn_logit_softcapping"] = c.attention_softcap > 0 ? json(c.attention_softcap) : json();
    j["final_logit_softcapping"] = c.final_softcap > 0 ? json(c.final_softcap) : json();
  }
  if (c.sliding_window > 0) {
    j["sliding_window"] = c.sliding_window;
    j["use_sliding_window"] = true;
    for (const bool slides : c.sliding) j["layer_types"].push_back(slides ? "sliding_attention" : "full_attention");
  }
  // Both layouts, so that older and newer readers find theirs.
  j["rope_theta"] = c.rope.theta;
  if (!c.rope.scaling.empty()) j["rope_scaling"] = rope_to_json(c.rope);
  if (c.family == DecoderFamily::kGemma3) {
    j["rope_local_base_freq"] = c.rope_sliding.theta;
    j["rope_parameters"] = {{"full_attention", rope_to_json(c.rope)}, {"sliding_attention", rope_to_json(c.rope_sliding)}};
  } else {
    j["rope_parameters"] = rope_to_json(c.rope);
  }
  if (c.bos_id >= 0) j["bos_token_id"] = c.bos_id;
  if (!c.eos_ids.empty()) j["eos_token_id"] = c.eos_ids.size() == 1 ? json(c.eos_ids[0]) : json(c.eos_ids);
  return j;
}

}  // namespace deepseek::models
