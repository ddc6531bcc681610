// adapter_config.json to AdapterConfig and back.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "models/adapter/adapter.h"

namespace deepseek::models {

[[nodiscard]] base::Result<AdapterConfig> adapter_config_from_json(const nlohmann::ordered_json& json);
[[nodiscard]] nlohmann::ordered_json adapter_config_to_json(const AdapterConfig& config);

}  // namespace deepseek::models
