// The charting library that the page carries with it.
#pragma once

#include <string_view>

namespace deepseek::train {

/// Vega, Vega-Lite and Vega-Embed as one script; empty where the build had no npm.
[[nodiscard]] std::string_view vega_script();

}  // namespace deepseek::train
