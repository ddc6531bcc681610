#include "models/bert/config.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
using Json = nlohmann::ordered_json;

constexpr std::array kRead{"bert", "roberta", "xlm-roberta"};
constexpr std::array kOthers{"albert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "modernbert", "mpnet", "nomic_bert", "xlm"};
constexpr int64_t kMost = int64_t{1} << 31;

// Absent or null: the fallback. Another type is an error, which is noted in `status`.
int64_t integer(const Json& json, const char* key, int64_t fallback, base::Status& status) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return fallback;
  if (found->is_number_integer()) return found->get<int64_t>();
  if (status) status = fail("{} is {}, which is no whole number", key, found->dump().substr(0, 40));
  return fallback;
}

std::string text(const Json& json, const char* key, const std::string& fallback) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : fallback;
}

base::Status check_sizes(const BertConfig& c) {
  const std::array<std::pair<const char*, int64_t>, 7> sizes{{{"vocab_size", c.vocab_size}, {"hidden_size", c.hidden_size},
      {"intermediate_size", c.intermediate_size}, {"num_hidden_layers", c.num_layers}, {"num_attention_heads", c.num_heads},
      {"max_position_embeddings", c.max_position_embeddings}, {"type_vocab_size", c.type_vocab_size}}};
  for (const auto& [name, value] : sizes) {
    if (value <= 0) return fail("{} is {}; an encoder needs a positive size there", name, value);
    if (value > kMost) return fail("{} is {}, more than any model has", name, value);
  }
  if (c.num_layers > 4096) return fail("num_hidden_layers is {}, more than any model has", c.num_layers);
  if (c.hidden_size % c.num_heads != 0) return fail("hidden_size {} is no multiple of num_attention_heads {}", c.hidden_size, c.num_heads);
  if (!(c.layer_norm_eps > 0 && c.layer_norm_eps < 1)) return fail("layer_norm_eps {} is not in (0, 1)", c.layer_norm_eps);
  if (c.pad_token_id < 0 || c.pad_token_id >= c.vocab_size) return fail("pad_token_id {} is outside the vocabulary of {}", c.pad_token_id, c.vocab_size);
  if (c.longest() < 1) return fail("max_position_embeddings {} leaves no position behind the padding token {}", c.max_position_embeddings, c.pad_token_id);
  return {};
}

Result<std::string> activation_of(const Json& json) {
  const std::string named = text(json, "hidden_act", "gelu");
  if (named == "gelu" || named == "gelu_python") return std::string("gelu");
  if (named == "gelu_new" || named == "gelu_pytorch_tanh" || named == "gelu_fast") return std::string("gelu_tanh");
  if (named == "relu") return named;
  return fail("hidden_act '{}' is not supported; supported are gelu, gelu_new, gelu_pytorch_tanh and relu", named);
}

}  // namespace

bool is_encoder_type(const std::string& model_type) {
  const auto names = [&](const auto& list) { return std::find(list.begin(), list.end(), model_type) != list.end(); };
  return names(kRead) || names(kOthers);
}

Result<BertConfig> bert_config_from_json(const Json& json) {
  if (!json.is_object()) return fail("config.json is no JSON object");
  BertConfig c;
  c.model_type = text(json, "model_type", "");
  if (std::find(kRead.begin(), kRead.end(), c.model_type) == kRead.end()) {
    return fail("the model type '{}' is no encoder that is supported; supported are bert, roberta and xlm-roberta", c.model_type);
  }
  const std::string positions = text(json, "position_embedding_type", "absolute");
  if (positions != "absolute") return fail("position_embedding_type '{}' is not supported; supported is absolute", positions);
  if (const auto decodes = json.find("is_decoder"); decodes != json.end() && *decodes == true) return fail("is_decoder is true; this one is no encoder");
  auto activation = activation_of(json);
  if (!activation) return base::pass(activation);
  c.activation = *activation;
  base::Status status;
  c.vocab_size = integer(json, "vocab_size", 0, status);
  c.hidden_size = integer(json, "hidden_size", 0, status);
  c.intermediate_size = integer(json, "intermediate_size", 0, status);
  c.num_layers = integer(json, "num_hidden_layers", 0, status);
  c.num_heads = integer(json, "num_attention_heads", 0, status);
  c.max_position_embeddings = integer(json, "max_position_embeddings", 512, status);
  c.type_vocab_size = integer(json, "type_vocab_size", 2, status);
  c.pad_token_id = integer(json, "pad_token_id", c.positions_follow_padding() ? 1 : 0, status);
  if (const auto eps = json.find("layer_norm_eps"); eps != json.end()) {
    if (!eps->is_number()) return fail("layer_norm_eps is {}, which is no number", eps->dump().substr(0, 40));
    c.layer_norm_eps = eps->get<double>();
  }
  if (!status) return base::pass(status);
  if (auto sound = check_sizes(c); !sound) return base::pass(sound);
  return c;
}

}  // namespace deepseek::models
