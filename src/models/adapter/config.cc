#include "models/adapter/config.h"

#include <array>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace deepseek::models {
namespace {

using base::fail;
using Json = nlohmann::ordered_json;

constexpr const char* kMergeThere = "merge this adapter with PEFT (merge_and_unload) and use that model";

// Empty, false, null and zero all mean that a feature of PEFT is not used.
bool in_use(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return false;
  if (found->is_boolean()) return found->get<bool>();
  return !((found->is_array() || found->is_object() || found->is_string()) && found->empty());
}

base::Status check_supported(const Json& json) {
  const std::string kind = json.value("peft_type", "");
  if (kind != "LORA") return fail("adapter_config.json: adapters of type '{}' are not supported, only LORA", kind);
  constexpr std::array kUnsupported{"modules_to_save", "layer_replication", "target_parameters", "trainable_token_indices", "use_qalora",
                                    "use_bdlora", "lora_bias", "fan_in_fan_out", "alora_invocation_tokens", "kasa_config"};
  for (const char* key : kUnsupported) {
    if (in_use(json, key)) return fail("adapter_config.json: '{}' is not supported; {}", key, kMergeThere);
  }
  if (json.value("bias", "none") != "none") {
    return fail("adapter_config.json: trained biases ('bias': '{}') are not supported; {}", json["bias"].get<std::string>(), kMergeThere);
  }
  // These change the weights below the adapter too, so that on the plain ones it means something else.
  const Json init = json.value("init_lora_weights", Json(true));
  const std::string name = init.is_string() ? init.get<std::string>() : "";
  for (const char* kind : {"pissa", "olora", "corda", "loftq", "lora_ga"}) {
    if (name.starts_with(kind)) {
      return fail("adapter_config.json: an adapter that began as '{}' belongs to changed base weights; save it with PEFT's "
                  "path_initial_model_for_weight_conversion", name);
    }
  }
  return {};
}

void read_names(const Json& json, const char* key, std::vector<std::string>& names, std::string* pattern) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return;
  names.clear();
  if (found->is_string()) {
    const auto text = found->get<std::string>();
    if (pattern != nullptr && text != "all-linear") {
      *pattern = text;
    } else {
      names = {text};
    }
    return;
  }
  for (const auto& name : *found) names.push_back(name.get<std::string>());
}

AdapterConfig read(const Json& json) {
  AdapterConfig config;
  const auto take = [&](const char* key, auto& value) {
    if (const auto found = json.find(key); found != json.end() && !found->is_null()) found->get_to(value);
  };
  take("base_model_name_or_path", config.base_model);
  config.rank = 8;  // PEFT's defaults where an old file leaves them out
  config.alpha = 8;
  take("r", config.rank);
  take("lora_alpha", config.alpha);
  take("lora_dropout", config.dropout);
  take("use_rslora", config.use_rslora);
  take("use_dora", config.use_dora);
  read_names(json, "target_modules", config.target_modules, &config.target_pattern);
  read_names(json, "exclude_modules", config.exclude_modules, &config.exclude_pattern);
  read_names(json, "layers_pattern", config.layers_pattern, nullptr);
  if (const auto layers = json.find("layers_to_transform"); layers != json.end() && !layers->is_null()) {
    if (layers->is_number()) {
      config.layers_to_transform = {layers->get<int64_t>()};
    } else {
      layers->get_to(config.layers_to_transform);
    }
  }
  const Json ranks = json.value("rank_pattern", Json::object()), alphas = json.value("alpha_pattern", Json::object());
  for (const auto& [key, value] : ranks.items()) config.rank_pattern.emplace_back(key, value.get<int64_t>());
  for (const auto& [key, value] : alphas.items()) config.alpha_pattern.emplace_back(key, value.get<double>());
  return config;
}

Json names_or_pattern(const std::vector<std::string>& names, const std::string& pattern) {
  if (!pattern.empty()) return pattern;
  if (names.empty()) return nullptr;
  return names;
}

}  // namespace

base::Result<AdapterConfig> adapter_config_from_json(const Json& json) {
  if (!json.is_object()) return fail("adapter_config.json is no JSON object");
  try {
    if (auto supported = check_supported(json); !supported) return base::pass(supported);
    return read(json);
  } catch (const nlohmann::json::exception& error) {
    return fail("adapter_config.json: {}", error.what());
  }
}

Json adapter_config_to_json(const AdapterConfig& config) {
  Json json;
  const auto number = [](double value) { return value == static_cast<int64_t>(value) ? Json(static_cast<int64_t>(value)) : Json(value); };
  json["peft_type"] = "LORA";
  json["task_type"] = "CAUSAL_LM";
  json["base_model_name_or_path"] = config.base_model;
  json["revision"] = nullptr;
  json["inference_mode"] = true;
  json["r"] = config.rank;
  json["lora_alpha"] = number(config.alpha);
  json["lora_dropout"] = config.dropout;
  json["target_modules"] = names_or_pattern(config.target_modules, config.target_pattern);
  json["exclude_modules"] = names_or_pattern(config.exclude_modules, config.exclude_pattern);
  json["layers_to_transform"] = config.layers_to_transform.empty() ? Json(nullptr) : Json(config.layers_to_transform);
  json["layers_pattern"] = config.layers_pattern.empty() ? Json(nullptr) : Json(config.layers_pattern);
  json["rank_pattern"] = Json::object();
  for (const auto& [key, rank] : config.rank_pattern) json["rank_pattern"][key] = rank;
  json["alpha_pattern"] = Json::object();
  for (const auto& [key, alpha] : config.alpha_pattern) json["alpha_pattern"][key] = number(alpha);
  json["use_rslora"] = config.use_rslora;
  json["use_dora"] = config.use_dora;
  json["bias"] = "none";
  json["fan_in_fan_out"] = false;
  json["init_lora_weights"] = true;
  json["modules_to_save"] = nullptr;
  return json;
}

base::Result<AdapterConfig> read_adapter_config(const base::fs::path& directory) {
  if (!base::fs::exists(directory / kAdapterConfigFile)) {
    return fail("{} is no adapter: it has no {}", directory.string(), kAdapterConfigFile);
  }
  auto json = base::read_json_file(directory / kAdapterConfigFile);
  if (!json) return base::pass(json);
  auto config = adapter_config_from_json(*json);
  if (!config) return base::within(directory.string(), config.error());
  return config;
}

bool holds_indexer(const base::fs::path& directory) {
  std::error_code error;
  return !directory.empty() && base::fs::exists(directory / kIndexerConfigFile, error);
}

}  // namespace deepseek::models
