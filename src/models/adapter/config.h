// adapter_config.json to AdapterConfig and back.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/files.h"

namespace deepseek::models {

constexpr const char* kAdapterConfigFile = "adapter_config.json";
constexpr const char* kAdapterWeightsFile = "adapter_model.safetensors";
constexpr const char* kIndexerConfigFile = "indexer_config.json";
constexpr const char* kIndexerWeightsFile = "indexer.safetensors";

/// What PEFT's adapter_config.json says, in its own terms.
struct AdapterConfig {
  std::string base_model;                   ///< base_model_name_or_path
  int64_t rank = 16;                        ///< r
  double alpha = 32;                        ///< lora_alpha; scale alpha / r, rsLoRA alpha / sqrt(r)
  double dropout = 0;                       ///< lora_dropout
  bool use_rslora = false, use_dora = false;
  /// Names, or ends of names after a dot; "all-linear" means every linear layer but the head.
  std::vector<std::string> target_modules{"all-linear"};
  std::string target_pattern;               ///< a regular expression over whole names instead of the list
  std::vector<std::string> exclude_modules;
  std::string exclude_pattern;
  std::vector<int64_t> layers_to_transform; ///< empty: all
  std::vector<std::string> layers_pattern;
  /// Rank and alpha of the modules whose name ends in a match of the key; the first match counts.
  std::vector<std::pair<std::string, int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
};

[[nodiscard]] base::Result<AdapterConfig> adapter_config_from_json(const nlohmann::ordered_json& json);
[[nodiscard]] nlohmann::ordered_json adapter_config_to_json(const AdapterConfig& config);

/// Errors: no adapter there, a kind of adapter that is not LoRA, DoRA or rsLoRA.
[[nodiscard]] base::Result<AdapterConfig> read_adapter_config(const base::fs::path& directory);

/// Whether there is a trained indexer in a directory, with or without a PEFT adapter beside it.
[[nodiscard]] bool holds_indexer(const base::fs::path& directory);

}  // namespace deepseek::models
