#include "models/deepseek/config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>

#include "base/json.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
using base::value_or;
using json = nlohmann::ordered_json;

struct TypeRow {
  const char* model_type;
  DeepseekVersion version;
};
constexpr std::array<TypeRow, 3> kTypes{{{"deepseek_v2", DeepseekVersion::kV2}, {"deepseek_v3", DeepseekVersion::kV3}, {"deepseek_v32", DeepseekVersion::kV32}}};

// A whole number of the configuration; null counts as absent.
struct Field {
  const char* key;
  int64_t* into;
  int64_t fallback, least;
};
base::Status read_whole(const json& j, std::span<const Field> fields) {
  for (const auto& [key, into, fallback, least] : fields) {
    *into = fallback;
    if (const auto found = j.find(key); found != j.end() && !found->is_null()) {
      if (!found->is_number_integer()) return fail("{} is {}, which is no whole number", key, found->dump().substr(0, 40));
      *into = found->get<int64_t>();
    }
    if (*into < least || *into > (int64_t{1} << 31)) return fail("{} is {}; a model of this kind has {} or more there", key, *into, least);
  }
  return {};
}

base::Status check_supported(const json& j, const DeepseekConfig& c) {
  if (const auto found = j.find("quantization_config"); found != j.end() && found->is_object()) {
    return fail("weights quantised by '{}' are not supported; use the model's copy in bf16", value_or<std::string>(*found, "quant_method", "?"));
  }
  if (const auto act = value_or<std::string>(j, "hidden_act", "silu"); act != "silu") return fail("hidden_act '{}' is not supported; a model of this kind has silu", act);
  if (value_or<int64_t>(j, "moe_layer_freq", 1) != 1) return fail("moe_layer_freq {} is not supported; published models have 1", value_or<int64_t>(j, "moe_layer_freq", 1));
  const bool v2 = c.version == DeepseekVersion::kV2;
  if (v2 && c.normalize_routing) return fail("norm_topk_prob is not supported in DeepSeek-V2; its published models do without");
  const auto scoring = value_or<std::string>(j, "scoring_func", v2 ? "softmax" : "sigmoid");
  if (scoring != (v2 ? "softmax" : "sigmoid")) return fail("scoring_func '{}' is not supported; a model of this kind has {}", scoring, v2 ? "softmax" : "sigmoid");
  if (value_or(j, "attention_bias", false) || value_or(j, "mlp_bias", false)) return fail("attention_bias and mlp_bias are not supported; published models have none");
  return {};
}

base::Status read_sizes(const json& j, DeepseekConfig& c) {
  DecoderConfig& d = c.common;
  const std::array<Field, 11> fields{{{"vocab_size", &d.vocab_size, 0, 1}, {"hidden_size", &d.hidden_size, 0, 1}, {"intermediate_size", &d.intermediate_size, 0, 1},
                                      {"num_hidden_layers", &d.num_layers, 0, 1}, {"num_attention_heads", &d.num_heads, 0, 1},
                                      {"max_position_embeddings", &d.max_position_embeddings, c.version == DeepseekVersion::kV32 ? 163840 : 4096, 1},
                                      {"q_lora_rank", &c.q_lora_rank, 0, 0}, {"kv_lora_rank", &c.kv_lora_rank, 512, 1}, {"qk_nope_head_dim", &c.qk_nope_head_dim, 128, 1},
                                      {"qk_rope_head_dim", &c.qk_rope_head_dim, 64, 2}, {"v_head_dim", &c.v_head_dim, 128, 1}}};
  if (auto read = read_whole(j, fields); !read) return read;
  d.num_kv_heads = d.num_heads;
  d.head_dim = c.qk_nope_head_dim + c.qk_rope_head_dim;
  if (d.num_layers > 4096) return fail("num_hidden_layers is {}, more than any model has", d.num_layers);
  if (c.qk_rope_head_dim % 2 != 0) return fail("qk_rope_head_dim {} is odd; rotary embedding needs pairs", c.qk_rope_head_dim);
  d.rms_norm_eps = value_or(j, "rms_norm_eps", 1e-6);
  if (!(d.rms_norm_eps > 0 && d.rms_norm_eps < 1)) return fail("rms_norm_eps {} is not in (0, 1)", d.rms_norm_eps);
  d.tie_word_embeddings = value_or(j, "tie_word_embeddings", false);
  d.sliding.assign(static_cast<size_t>(d.num_layers), false);
  return {};
}

base::Status read_experts(const json& j, DeepseekConfig& c) {
  const bool v2 = c.version == DeepseekVersion::kV2;
  int64_t first = 0;
  const std::array<Field, 7> fields{{{"n_routed_experts", &c.num_experts, 0, 0}, {"num_experts_per_tok", &c.experts_per_token, v2 ? 0 : 8, 0},
                                     {"n_shared_experts", &c.num_shared_experts, 0, 0}, {"moe_intermediate_size", &c.expert_size, 0, 0}, {"n_group", &c.num_groups, 1, 1},
                                     {"topk_group", &c.groups_per_token, 1, 1}, {"first_k_dense_replace", &first, v2 ? 0 : 3, 0}}};
  if (auto read = read_whole(j, fields); !read) return read;
  c.sigmoid_routing = !v2;
  c.normalize_routing = value_or(j, "norm_topk_prob", !v2);
  c.routing_scale = value_or(j, "routed_scaling_factor", v2 ? 1.0 : 2.5);
  if (v2 && value_or<std::string>(j, "topk_method", "greedy") == "greedy") c.num_groups = c.groups_per_token = 1;
  const DecoderConfig& d = c.common;
  for (int64_t i = 0; i < d.num_layers; ++i) c.experts_in.push_back(c.num_experts > 0 && i >= first);
  if (const auto types = j.find("mlp_layer_types"); types != j.end() && !types->is_null()) {
    if (!types->is_array() || static_cast<int64_t>(types->size()) != d.num_layers) return fail("mlp_layer_types must name a type for each of the {} layers", d.num_layers);
    for (size_t i = 0; i < types->size(); ++i) {
      if ((*types)[i] != "dense" && (*types)[i] != "sparse") return fail("mlp_layer_types has {}; supported are dense and sparse", (*types)[i].dump().substr(0, 40));
      c.experts_in[i] = (*types)[i] == "sparse";
    }
  }
  if (std::find(c.experts_in.begin(), c.experts_in.end(), true) == c.experts_in.end()) return {};
  if (c.experts_per_token < 1 || c.experts_per_token > c.num_experts) return fail("num_experts_per_tok is {} of {} experts", c.experts_per_token, c.num_experts);
  if (c.num_experts > 65536 || c.expert_size < 1) return fail("{} experts of size {} are no mixture that a model has", c.num_experts, c.expert_size);
  if (c.num_experts % c.num_groups != 0) return fail("n_routed_experts {} is no multiple of n_group {}", c.num_experts, c.num_groups);
  const int64_t each = c.num_experts / c.num_groups;
  if (c.groups_per_token > c.num_groups || c.groups_per_token * each < c.experts_per_token) {
    return fail("topk_group {} of {} groups holds {} experts, and num_experts_per_tok is {}", c.groups_per_token, c.num_groups, c.groups_per_token * each, c.experts_per_token);
  }
  if (!v2 && each < 2) return fail("n_group {} leaves {} expert in a group; a group is scored by its best two", c.num_groups, each);
  return {};
}

base::Status read_rope(const json& j, DeepseekConfig& c) {
  RopeConfig rope{.theta = value_or(j, "rope_theta", 10000.0), .scaling = ""};
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto found = j.find(key);
    if (found == j.end()) continue;
    auto read = rope_from_json(*found, rope, "yarn", c.common.max_position_embeddings);
    if (!read) return pass(read);
    rope = *read;
  }
  if (!(rope.theta > 0)) return fail("rope_theta must be positive");
  c.common.rope = c.common.rope_sliding = rope;
  c.rope_interleaved = value_or(j, "rope_interleave", true);
  c.attention_scale = 1.0 / std::sqrt(static_cast<double>(c.common.head_dim));
  if (!rope.scaling.empty() && rope.mscale_all_dim != 0) {
    const double m = yarn_mscale(rope.factor, rope.mscale_all_dim);
    c.attention_scale *= m * m;
  }
  c.common.attention_scale = c.attention_scale;
  return {};
}

base::Status read_indexer(const json& j, DeepseekConfig& c) {
  if (c.version != DeepseekVersion::kV32) return {};
  const std::array<Field, 3> fields{{{"index_n_heads", &c.index_heads, 64, 1}, {"index_head_dim", &c.index_dim, 128, 1}, {"index_topk", &c.index_top_k, 2048, 1}}};
  if (auto read = read_whole(j, fields); !read) return read;
  if (c.q_lora_rank == 0) return fail("q_lora_rank is missing; the indexer's queries come from it");
  if (c.index_dim < c.qk_rope_head_dim) return fail("index_head_dim {} is smaller than qk_rope_head_dim {}", c.index_dim, c.qk_rope_head_dim);
  return {};
}

}  // namespace

bool is_deepseek_type(std::string_view model_type) {
  return std::any_of(kTypes.begin(), kTypes.end(), [&](const TypeRow& row) { return model_type == row.model_type; });
}

Result<DeepseekConfig> deepseek_config_from_json(const json& j) {
  if (!j.is_object()) return fail("config.json is no JSON object");
  DeepseekConfig c;
  const auto type = value_or<std::string>(j, "model_type", "");
  const auto row = std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeRow& r) { return type == r.model_type; });
  if (row == kTypes.end()) return fail("model type '{}' is none of deepseek_v2, deepseek_v3, deepseek_v32", type);
  c.version = row->version;
  c.common.family = DecoderFamily::kDeepseek;
  for (const auto read : {read_sizes, read_experts, read_rope, read_indexer}) {
    if (auto done = read(j, c); !done) return pass(done);
  }
  if (auto sound = check_supported(j, c); !sound) return pass(sound);
  read_token_ids(j, c.common);
  return c;
}

int64_t DeepseekConfig::parameters() const {
  const int64_t h = common.hidden_size, q_in = q_lora_rank > 0 ? q_lora_rank : h;
  int64_t attention = common.num_heads * common.head_dim * q_in + (q_lora_rank > 0 ? h * q_lora_rank + q_lora_rank : 0);
  attention += h * (kv_lora_rank + qk_rope_head_dim) + kv_lora_rank + kv_lora_rank * common.num_heads * (qk_nope_head_dim + v_head_dim) + common.num_heads * v_head_dim * h;
  if (has_indexer()) attention += q_lora_rank * index_heads * index_dim + h * (index_dim + index_heads) + 2 * index_dim;
  int64_t all = h + common.vocab_size * h * (common.tie_word_embeddings ? 1 : 2);
  for (const bool experts : experts_in) {
    all += attention + 2 * h;
    all += experts ? num_experts * (h + 3 * h * expert_size + (sigmoid_routing ? 1 : 0)) + 3 * h * expert_size * num_shared_experts : 3 * h * common.intermediate_size;
  }
  return all;
}

}  // namespace deepseek::models
