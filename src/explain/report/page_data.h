// What a page carries of an explanation: the strongest features, figures and the sentences of both languages.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "explain/report/document.h"

namespace deepseek::explain {

struct PageLimits {
  size_t features = 300;     ///< of the sample and of all rows, each; with every group above them
  size_t swarms = 15;        ///< features whose points are carried
  size_t points = 1000;      ///< at most; of more, every second, third, ...
  size_t interactions = 40;  ///< of the sample and of all rows, each
  size_t name = 200;         ///< columns of a name, input or note
};

/// The object that src/explain/page/src/data.ts describes. Leaves that are left out of a group stand as one node "others" with what they have together.
[[nodiscard]] nlohmann::ordered_json page_data(const Document& document, const std::string& language, const PageLimits& limits = {});

}  // namespace deepseek::explain
