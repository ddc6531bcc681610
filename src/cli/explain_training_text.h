// What explain --train and --find_reliance print for people.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "explain/feature_tree.h"
#include "explain/reliance/proxies.h"
#include "explain/reliance/reliance.h"

namespace deepseek::cli {

/// Of train_table()'s report.
[[nodiscard]] std::string training_text(const nlohmann::ordered_json& report, bool chinese);

/// Shares, the proxies of what is flagged, and what the plan (null: there is none) measured.
[[nodiscard]] std::string reliance_text(const explain::Reliance& reliance, const std::vector<explain::ProxyReport>& proxies, const explain::FeatureTree& tree,
                                        const nlohmann::ordered_json& plan, bool chinese);

}  // namespace deepseek::cli
